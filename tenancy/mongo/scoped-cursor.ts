/**
 * A tenant's cursor. It holds a lease on its client while the server has more documents for it. If it is not read from for
 * `idleMs`, it is closed, so that a forgotten cursor does not keep a client.
 */
import type { AbstractCursor, ClientSession, Document } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import { throwIfAborted, whenAborted } from '../signal.js';
import type { Login } from './login.js';
import type { Lease } from './seat.js';
import type { Statement, StatementRunner } from './statement-runner.js';

export interface CursorPlan {
  readonly statement: Statement;
  /** The driver's cursor, not yet sent. */
  readonly open: (login: Login, session: ClientSession | undefined) => AbstractCursor<Document>;
  /** How long nobody may read from the cursor before it is closed, in milliseconds. */
  readonly idleMs: number;
}

export class ScopedCursor<T> implements AsyncIterable<T> {
  readonly #runner: StatementRunner;
  readonly #plan: () => CursorPlan;
  /** Fixed at the first read. */
  #started: CursorPlan | undefined;
  #source: { readonly cursor: AbstractCursor<Document>; readonly lease: Lease } | undefined;
  #buffer: Document[] = [];
  #position = 0;
  #state: 'new' | 'open' | 'ended' = 'new';
  #fetching: Promise<void> | undefined;
  #failure: unknown;
  /** Set while nobody reads from it: stops the timer and the listening for its signal. */
  #stopWaiting: (() => void) | undefined;

  constructor(runner: StatementRunner, plan: () => CursorPlan) {
    this.#runner = runner;
    this.#plan = plan;
  }

  /** Whether it has been asked for a document. */
  protected get started(): boolean {
    return this.#state !== 'new';
  }

  get closed(): boolean {
    return this.#state === 'ended' && !this.#hasBuffered;
  }

  /** The next document, or null at the end. */
  async next(): Promise<T | null> {
    this.#runner.refuseOthers();
    // Checked again after each wait: another reader may have taken what came.
    while (!this.#hasBuffered) if (!(await this.#more())) return null;
    return this.#buffer[this.#position++] as T;
  }

  /** Whether there is a next document, which it leaves there. */
  async hasNext(): Promise<boolean> {
    this.#runner.refuseOthers();
    while (!this.#hasBuffered) if (!(await this.#more())) return false;
    return true;
  }

  async toArray(): Promise<T[]> {
    if (this.#state !== 'new') {
      const rest: T[] = [];
      for await (const document of this) rest.push(document);
      return rest;
    }
    const { statement, open } = this.#start();
    this.#state = 'ended';
    // Where a login is refused on the way, this begins anew: no document has been handed out yet.
    return this.#runner.run(statement, async (login, session) => {
      const cursor = open(login, session);
      const documents = await cursor.toArray();
      refuseHalf(cursor);
      return documents as T[];
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    try {
      for (let document = await this.next(); document !== null; document = await this.next()) yield document;
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#buffer = [];
    this.#position = 0;
    this.#state = 'ended';
    await this.#fetching?.catch(() => undefined);
    await this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #start(): CursorPlan {
    this.#started ??= this.#plan();
    return this.#started;
  }

  get #hasBuffered(): boolean {
    return this.#position < this.#buffer.length;
  }

  /** Asks the server for more, once for all that wait. False at the end. */
  async #more(): Promise<boolean> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === 'ended') return false;
    await (this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    }));
    return true;
  }

  async #fetch(): Promise<void> {
    this.#stopWaiting?.();
    const { statement } = this.#start();
    try {
      if (this.#state === 'new')
        await this.#runner.begin(statement, (lease, session) => this.#open(lease, session));
      else if (this.#source !== undefined) {
        const { lease, cursor } = this.#source;
        await this.#runner.goOn(lease, () => this.#take(cursor));
      }
      throwIfAborted(statement.signal);
    } catch (error) {
      this.#failure = await this.#runner.failure(statement, error);
      await this.#end();
      return;
    }
    if (this.#source === undefined) return;
    if (this.#source.cursor.id?.isZero() !== false) await this.#end();
    else if (this.#state === 'ended') await this.#end();
    else this.#waitForReader();
  }

  /** Closes the cursor if it is forgotten or its signal is aborted. */
  #waitForReader(): void {
    const { statement, idleMs } = this.#start();
    const over = (failure: unknown): void => {
      this.#failure = failure;
      this.#end().catch(() => undefined);
    };
    const timer = setTimeout(
      () =>
        over(
          new TenantryError('STORE_REFUSED', {
            store: 'MongoDB',
            reason: 'the cursor was left open, and closed',
          }),
        ),
      idleMs,
    ).unref();
    const stopListening = whenAborted(statement.signal, over);
    this.#stopWaiting = () => {
      clearTimeout(timer);
      stopListening();
    };
  }

  async #open(lease: Lease, session: ClientSession | undefined): Promise<void> {
    const { open } = this.#start();
    let cursor: AbstractCursor<Document> | undefined;
    try {
      // The driver may refuse what it is given, before anything is sent.
      cursor = open(lease.login, session);
      await this.#take(cursor);
      // The rest must come over this client. So all its connections are opened now: later the password may have been rotated.
      if (cursor.id?.isZero() === false && session === undefined) await lease.login.fill();
    } catch (error) {
      this.#buffer = [];
      this.#position = 0;
      await cursor?.close().catch(() => undefined);
      lease.release();
      throw error;
    }
    lease.hold();
    this.#source = { cursor, lease };
    if (this.#state === 'new') this.#state = 'open';
  }

  async #take(cursor: AbstractCursor<Document>): Promise<void> {
    if (!(await cursor.hasNext())) refuseHalf(cursor);
    // It was closed meanwhile: nobody wants what came.
    if (this.#state === 'ended') return;
    this.#buffer = cursor.readBufferedDocuments();
    this.#position = 0;
  }

  async #end(): Promise<void> {
    this.#stopWaiting?.();
    this.#state = 'ended';
    const source = this.#source;
    this.#source = undefined;
    if (source === undefined) return;
    try {
      await source.cursor.close();
    } catch {
      // Its reader is done with it, and the server closes it by itself in time.
    } finally {
      source.lease.release();
    }
  }
}

Object.freeze(ScopedCursor.prototype);

/** A cursor that was closed while it was read looks to the driver as if it had ended. */
function refuseHalf(cursor: AbstractCursor<Document>): void {
  if (cursor.killed) throw new TenantryError('STORE_UNAVAILABLE', { store: 'MongoDB' });
}
