/**
 * Connections that one caller has to itself for a while: transactions, and statements that may be cancelled or are
 * slow. One comes back into use only when the server says that it is in no transaction.
 */
import { TenantryError } from '../../domain/errors.js';
import { isAborted, reasonOf, whenAborted } from '../signal.js';
import { cancelBackend } from './cancel.js';
import type { Connection } from './connection.js';

export interface InteractiveOptions {
  readonly interactive: number;
  readonly acquireTimeoutMs: number;
}

interface Waiting {
  readonly give: (connection: Connection) => void;
  readonly fail: (error: unknown) => void;
}

const IDLE_MS = 30_000;

export class InteractivePool {
  readonly #open: () => Promise<Connection>;
  readonly #options: InteractiveOptions;
  readonly #idle: { readonly connection: Connection; readonly timer: NodeJS.Timeout }[] = [];
  readonly #lent = new Set<Connection>();
  readonly #farewells = new Set<Promise<unknown>>();
  readonly #opening = new Set<Promise<void>>();
  readonly #waiting: Waiting[] = [];
  #closed = false;

  constructor(open: () => Promise<Connection>, options: InteractiveOptions) {
    this.#open = open;
    this.#options = options;
  }

  /** @throws TenantryError CLIENTS_EXHAUSTED, STORE_UNAVAILABLE, or the signal's reason */
  acquire(signal?: AbortSignal): Promise<Connection> {
    if (isAborted(signal)) return Promise.reject(reasonOf(signal));
    if (this.#closed) return Promise.reject(new Error('This scoped PostgreSQL has been closed.'));
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        stopListening();
        const at = this.#waiting.indexOf(waiting);
        if (at >= 0) this.#waiting.splice(at, 1);
      };
      const waiting: Waiting = {
        give: (connection) => {
          done();
          resolve(connection);
        },
        fail: (error) => {
          done();
          reject(error);
        },
      };
      const { interactive, acquireTimeoutMs } = this.#options;
      const giveUp = (): void => {
        // With room for another connection it was not the others that kept this one waiting.
        const code = this.#lent.size < interactive ? 'STORE_UNAVAILABLE' : 'CLIENTS_EXHAUSTED';
        waiting.fail(new TenantryError(code, { store: 'PostgreSQL' }));
      };
      // Behind what has arrived, which may be the end of what it waits for. Failing what has been given one changes nothing.
      const timer = setTimeout(() => setImmediate(giveUp), acquireTimeoutMs);
      const stopListening = whenAborted(signal, waiting.fail);
      this.#waiting.push(waiting);
      this.#serve();
    });
  }

  release(connection: Connection): void {
    if (!this.#lent.delete(connection)) return;
    if (this.#closed || !connection.idle) connection.destroy();
    else {
      const timer = setTimeout(() => {
        const at = this.#idle.findIndex((item) => item.connection === connection);
        if (at >= 0) this.#idle.splice(at, 1);
        void connection.end();
      }, IDLE_MS);
      timer.unref();
      this.#idle.push({ connection, timer });
    }
    this.#serve();
  }

  /** Cancels what runs on it. It is destroyed then: a late cancel must not meet the statement of whoever comes next. */
  cancel(connection: Connection): void {
    const cancelled = cancelBackend(connection)
      // The server may be gone, and the statement with it.
      .catch(() => undefined)
      .finally(() => {
        connection.destroy();
        this.release(connection);
        this.#farewells.delete(cancelled);
      });
    this.#farewells.add(cancelled);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0))
      waiting.fail(new Error('This scoped PostgreSQL has been closed.'));
    for (const connection of this.#lent) connection.destroy();
    for (const { timer } of this.#idle) clearTimeout(timer);
    await Promise.all([
      ...this.#idle.splice(0).map(({ connection }) => connection.end()),
      ...this.#farewells,
      // One that comes now is destroyed.
      ...this.#opening,
    ]);
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const item = this.#idle.pop();
      if (item === undefined) break;
      clearTimeout(item.timer);
      if (item.connection.idle) this.#give(item.connection);
    }
    const wanted = Math.min(
      this.#waiting.length - this.#opening.size,
      this.#options.interactive - this.#lent.size - this.#opening.size,
    );
    for (let i = 0; i < wanted; i++) this.#add();
  }

  #add(): void {
    const opening = this.#open().then(
      (connection) => {
        this.#opening.delete(opening);
        // Its borrower may never come back: the server ends a transaction that was forgotten, and its place is free.
        void connection.closed.then(() => this.release(connection));
        this.#give(connection);
      },
      (error: unknown) => {
        this.#opening.delete(opening);
        this.#waiting[0]?.fail(error);
        this.#serve();
      },
    );
    this.#opening.add(opening);
  }

  #give(connection: Connection): void {
    const [next] = this.#waiting;
    this.#lent.add(connection);
    if (next === undefined || this.#closed) this.release(connection);
    else next.give(connection);
  }
}
