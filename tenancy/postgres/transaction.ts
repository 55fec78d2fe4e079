/**
 * A transaction of one tenant, on a connection that nobody else uses until it ends. Its handle cannot be used afterwards. A
 * forgotten transaction is ended by the server, `idle_in_transaction_session_timeout` after its last statement.
 */
import type { QueryResult, QueryResultRow } from 'pg';
import { TenantryError } from '../../domain/errors.js';
import { throwIfAborted, untilAborted } from '../signal.js';
import type { Ahead, Connection } from './connection.js';
import { type Given, type Limits, limitsOf, statementOf } from './given.js';
import type { Statement } from './group.js';
import type { InteractivePool } from './interactive.js';
import { refused } from './refused.js';
import { admitStatement, isCursor, isRollback } from './statement.js';

export type IsolationLevel = 'read committed' | 'repeatable read' | 'serializable';

export interface TransactionOptions {
  readonly isolation?: IsolationLevel | undefined;
  readonly readOnly?: boolean | undefined;
  /** Aborted to cancel what runs in the server and roll back. */
  readonly signal?: AbortSignal | undefined;
  /** The time-out of each statement, in ms. */
  readonly timeoutMs?: number | undefined;
}

/** Makes the statement that enters the tenant. It sets the time-outs if they are given; otherwise the session's apply. */
export type Enter = (timeouts?: {
  readonly statementMs: number;
  readonly idleMs?: number | undefined;
}) => Ahead;

/** How much longer than a statement's time-out the server may take before it counts as gone, in ms. */
export const GRACE_MS = 2_000;

export class Transaction {
  readonly #pool: InteractivePool;
  readonly #connection: Connection;
  readonly #enter: Enter;
  readonly #defaultMs: number;
  readonly #snapshotMs: number;
  /** The time-out that was set last; undefined when a rollback to a savepoint may have undone that. */
  #timeoutMs: number | undefined;
  #over = false;
  /** For a transaction that keeps its snapshot: the timer that cuts it, and then the reason why it was cut. */
  #limit: NodeJS.Timeout | undefined;
  #outlived: TenantryError | undefined;

  private constructor(
    pool: InteractivePool,
    connection: Connection,
    enter: Enter,
    timeoutMs: number,
    snapshotMs: number,
  ) {
    this.#snapshotMs = snapshotMs;
    this.#pool = pool;
    this.#connection = connection;
    this.#enter = enter;
    this.#defaultMs = timeoutMs;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * BEGIN and the tenant in one round trip.
   * @param modes of BEGIN, as SQL of ours
   */
  static async begin(
    pool: InteractivePool,
    enter: Enter,
    o: {
      readonly modes: string;
      readonly timeoutMs: number;
      readonly idleMs: number;
      readonly snapshotMs: number;
      readonly signal?: AbortSignal | undefined;
    },
  ): Promise<Transaction> {
    const connection = await pool.acquire(o.signal);
    const transaction = new Transaction(pool, connection, enter, o.timeoutMs, o.snapshotMs);
    try {
      const begun = transaction.#run([
        // Always explicit. By the session's default it might keep its first snapshot, and miss that the gate has closed since.
        {
          text: `BEGIN ${/\bISOLATION\b/i.test(o.modes) ? '' : 'ISOLATION LEVEL READ COMMITTED '}${o.modes}`.trim(),
        },
        enter({ statementMs: o.timeoutMs, idleMs: o.idleMs }),
      ]);
      await transaction.#until(o.signal, begun);
      if (KEEPS_ITS_SNAPSHOT.test(o.modes)) transaction.#keepsASnapshot();
      return transaction;
    } catch (error) {
      // BEGIN may have succeeded before this failed, and its answer may still be under way.
      connection.destroy();
      transaction.#end();
      throw error;
    }
  }

  get over(): boolean {
    return this.#over;
  }

  /** @throws TenantryError STATEMENT_REFUSED, STORE_UNAVAILABLE; pg.DatabaseError; the signal's reason */
  async query<R extends QueryResultRow = QueryResultRow>(
    given: Given,
    limits: Limits = {},
  ): Promise<QueryResult<R>> {
    const statement = statementOf(given);
    const { signal, timeoutMs = this.#defaultMs } = limitsOf(limits);
    if (this.#over) throw this.#outlived ?? ended();
    admitStatement(statement.text, 'in transaction');
    throwIfAborted(signal);
    if (isLonger(timeoutMs, this.#defaultMs))
      throw refused('its time-out is longer than that of its transaction');
    // Nothing is sent ahead of a rollback: a failed transaction takes no other statement.
    const back = isRollback(statement.text);
    // A time-out holds for the rest of a transaction, so after a different one the usual one is set again.
    const ahead = back || timeoutMs === this.#timeoutMs ? [] : [this.#enter({ statementMs: timeoutMs })];
    this.#timeoutMs = back ? undefined : timeoutMs;
    // A cursor keeps the snapshot of its declaration: reading from it later shows what the policies allowed then.
    if (isCursor(statement.text)) this.#keepsASnapshot();
    try {
      return await this.#until(signal, this.#run(ahead, statement) as Promise<QueryResult<R>>);
    } catch (error) {
      throw this.#outlived ?? error;
    }
  }

  /** @returns the server's answer, whose command is ROLLBACK if a statement had failed */
  async commit(): Promise<QueryResult> {
    if (this.#over) throw this.#outlived ?? ended();
    this.#over = true;
    try {
      return await this.#run([], { text: 'COMMIT' });
    } finally {
      this.#end();
    }
  }

  /** Does nothing when the transaction is over. If the rollback fails, the connection is closed, which rolls back as well. */
  async rollback(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#run([], { text: 'ROLLBACK' })
      .catch(() => this.#connection.destroy())
      .finally(() => this.#end());
  }

  /**
   * Cancels the statement in the server and closes the connection, which rolls back.
   * @returns false when the transaction is over or its end is under way
   */
  cancel(): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#limit);
    this.#pool.cancel(this.#connection);
    return true;
  }

  /** The snapshot shows the gate as it was, so from now on the transaction's time is limited. */
  #keepsASnapshot(): void {
    if (this.#snapshotMs <= 0) return;
    this.#limit ??= setTimeout(() => {
      if (this.cancel()) this.#outlived = outlived();
    }, this.#snapshotMs);
  }

  #end(): void {
    this.#over = true;
    clearTimeout(this.#limit);
    this.#pool.release(this.#connection);
  }

  async #run(ahead: readonly Ahead[], statement?: Statement): Promise<QueryResult> {
    return withinGrace(this.#connection, this.#timeoutMs ?? this.#defaultMs, () =>
      this.#connection.run(ahead, statement),
    );
  }

  #until<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
    return untilAborted(signal, work, () => this.cancel());
  }
}

const KEEPS_ITS_SNAPSHOT = /repeatable|serializable/i;

/**
 * Closes the connection if the server has not answered some time after the statement's time-out: it counts as gone. The time of a
 * statement begins when those before it on the connection are done.
 */
export async function withinGrace<T>(
  connection: Connection,
  timeoutMs: number,
  work: () => Promise<T>,
): Promise<T> {
  if (timeoutMs <= 0) return work();
  const limitMs = timeoutMs + GRACE_MS;
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const watch = (): void => {
    if (isOver) return;
    const left = limitMs - connection.headAge(performance.now());
    if (left <= 0) connection.destroy();
    else lookIn(left);
  };
  // Behind what has arrived: a process that stood still finds its timers due before it has read the answers.
  const lookIn = (ms: number): void => {
    timer = setTimeout(() => setImmediate(watch), Math.min(ms, LONGEST_TIMER_MS));
  };
  lookIn(limitMs);
  try {
    return await work();
  } finally {
    isOver = true;
    clearTimeout(timer);
  }
}

/** The longest delay of a timer: a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export function modesOf({ isolation, readOnly }: TransactionOptions): string {
  return [isolation && `ISOLATION LEVEL ${LEVELS[isolation]}`, readOnly === true && 'READ ONLY']
    .filter(Boolean)
    .join(' ');
}

/** Looked up, so that what stands in the statement is ours whatever a caller's types were. */
const LEVELS: Record<IsolationLevel, string> = {
  'read committed': 'READ COMMITTED',
  'repeatable read': 'REPEATABLE READ',
  serializable: 'SERIALIZABLE',
};

/** Compares time-outs, of which 0 means none. */
export const isLonger = (timeoutMs: number, limitMs: number): boolean =>
  limitMs > 0 && (timeoutMs <= 0 || timeoutMs > limitMs);

const ended = (): TenantryError => refused('its transaction has ended');
const outlived = (): TenantryError =>
  new TenantryError('STORE_REFUSED', {
    store: 'PostgreSQL',
    reason: 'its transaction has kept its snapshot for too long',
  });
