/**
 * A tenant's transaction, on one lease. The driver begins it again where the server asks for that. Three things the driver
 * leaves undefined, and they are handled here: statements side by side, failures that are swallowed, and statements that are not
 * awaited.
 */
import { type ClientSession, MongoError, MongoNetworkError, MongoServerError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import { refuseOtherTenants, type TenantContext } from '../context/tenant-context.js';
import { isAborted, reasonOf, throwIfAborted, untilAborted } from '../signal.js';
import type { ClientPool } from './client-pool.js';
import { createRetries, isLoginRefused } from './refused-login.js';
import { refused } from './refused.js';
import type { Lease } from './seat.js';
import { unlessAborted } from './signal.js';
import { Silence } from './silence.js';
import { mapped, refuseWrites, type StatementRunner } from './statement-runner.js';

export interface TransactionParts {
  readonly pool: ClientPool;
  readonly context: TenantContext;
  /** The runner of statements outside the transaction. It explains failures here too. */
  readonly runner: StatementRunner;
  readonly loginPatienceMs: number;
  /** How long the transaction may be idle before it is given up, in milliseconds. */
  readonly idleMs: number;
}

/** The caller's part. It gets the runner for its statements, and is called again where the transaction begins again. */
export type Work<R> = (runner: StatementRunner) => Promise<R>;

interface Stage {
  /** From then on only the server knows whether the transaction happened. */
  isCommitting: boolean;
}

export function transact<R>(
  parts: TransactionParts,
  work: Work<R>,
  signal: AbortSignal | undefined,
): Promise<R> {
  const stage: Stage = { isCommitting: false };
  return untilAborted(signal, onLease(parts, work, stage, signal), () => !stage.isCommitting);
}

/** A login may be refused on the way, after a rotation. Then nothing is committed, and the transaction begins again. */
async function onLease<R>(
  parts: TransactionParts,
  work: Work<R>,
  stage: Stage,
  signal: AbortSignal | undefined,
): Promise<R> {
  const { pool, context, runner } = parts;
  runner.refuseOthers();
  // Without the caller's signal: what `work` has thrown is to stay as it is, even after an abort.
  const failure = async (error: unknown): Promise<never> => {
    throw await runner.failure({ write: false, signal: undefined }, error);
  };
  const isBegunAgain = createRetries(parts.loginPatienceMs);
  for (;;) {
    const lease = await Promise.resolve(pool.lease(context.tenantId, signal)).catch(failure);
    lease.hold();
    try {
      if (!(await lease.bound(lease.login.hasTransactions())))
        throw refused('the server is a standalone, which has no transactions; a replica set of one has');
      await lease.bound(lease.login.fill());
      return await inSession(lease, parts, work, stage, signal);
    } catch (error) {
      if (isLoginRefused(error)) lease.refuse();
      if (!mayBeCommitted(error) && isBegunAgain(error)) continue;
      return await failure(error);
    } finally {
      lease.release();
    }
  }
}

/** The driver's label for a commit whose answer was lost. The result of trying it again would not tell whether it happened. */
const mayBeCommitted = (error: unknown): boolean =>
  error instanceof MongoError && error.hasErrorLabel('UnknownTransactionCommitResult');

async function inSession<R>(
  lease: Lease,
  { context, idleMs }: TransactionParts,
  work: Work<R>,
  stage: Stage,
  signal: AbortSignal | undefined,
): Promise<R> {
  const session: ClientSession = lease.login.client.startSession();
  try {
    return await session.withTransaction(async () => {
      stage.isCommitting = false;
      throwIfAborted(signal);
      const silence = new Silence(idleMs, leftOpen);
      const heard: Lease = { ...lease, bound: (asked) => silence.during(lease.bound(asked)) };
      const runner = new SessionRunner(heard, session, context);
      const asked = async (): Promise<R> => {
        const result = await work(runner);
        // Statements that `work` did not await are part of the transaction too.
        await runner.settled();
        return result;
      };
      let result: R;
      try {
        const ended = silence.ends(asked);
        result = await (signal === undefined ? ended : unlessAborted(ended, signal));
      } catch (error) {
        // The driver decides by its own error whether the transaction may be tried again.
        throw error instanceof TenantryError && error.cause instanceof MongoError ? error.cause : error;
      } finally {
        // A statement that came after this would run in the next attempt, or in no transaction.
        await runner.end();
      }
      runner.throwIfFailed();
      throwIfAborted(signal);
      stage.isCommitting = true;
      return result;
    }, PRIMARY);
  } finally {
    await session.endSession();
  }
}

/** Set whatever read preference the cell's URL has: transactions run on the primary only. */
const PRIMARY = { readPreference: 'primary' } as const;

const storeRefused = (reason: string, cause?: unknown): TenantryError =>
  new TenantryError('STORE_REFUSED', { store: 'MongoDB', reason }, { cause });
const leftOpen = (): TenantryError => storeRefused('its transaction was left open');

/**
 * Runs the statements of one attempt one after another. The driver would send them side by side, and the second one perhaps
 * before the one that begins the transaction.
 */
class SessionRunner implements StatementRunner {
  readonly #lease: Lease;
  readonly #session: ClientSession;
  readonly #context: TenantContext;
  #last: Promise<unknown> = Promise.resolve();
  #isOpen = true;
  /** The failure for which the server has rolled the transaction back. */
  #failure: unknown;

  constructor(lease: Lease, session: ClientSession, context: TenantContext) {
    // The lease belongs to the transaction: a cursor that releases it does nothing.
    this.#lease = { ...lease, hold: () => undefined, release: () => undefined };
    this.#session = session;
    this.#context = context;
  }

  /** Waits for all statements so far. */
  async settled(): Promise<void> {
    await this.#last;
  }

  /** Refuses further statements, and waits for those that are under way. */
  async end(): Promise<void> {
    this.#isOpen = false;
    await this.settled();
  }

  /** If the driver committed a transaction that was rolled back, it would begin it again, and fail again, for two minutes. */
  throwIfFailed(): void {
    const failure = this.#failure;
    if (failure === undefined) return;
    if (failure instanceof MongoError && failure.hasErrorLabel('TransientTransactionError')) throw failure;
    throw storeRefused('a statement had failed and the transaction was rolled back', failure);
  }

  refuseOthers(): void {
    refuseOtherTenants(this.#context.tenantId);
  }

  run: StatementRunner['run'] = (statement, work) =>
    this.begin(statement, ({ login }, session) => work(login, session));

  begin: StatementRunner['begin'] = async (statement, work) => {
    this.refuseOthers();
    refuseWrites(this.#context, statement);
    const { signal } = statement;
    return this.#inTurn(async () => {
      throwIfAborted(signal);
      try {
        return await this.#lease.bound(work(this.#lease, this.#session));
      } catch (error) {
        throwIfAborted(signal);
        throw mapped(error);
      }
    });
  };

  goOn: StatementRunner['goOn'] = (lease, work) => this.#inTurn(() => lease.bound(work()));

  failure: StatementRunner['failure'] = async ({ signal }, error) =>
    isAborted(signal) ? reasonOf(signal) : mapped(error);

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(async () => {
      if (!this.#isOpen) throw storeRefused('the transaction has ended');
      return work();
    });
    this.#last = result.catch((error: unknown) => {
      if (isOfServer(error)) this.#failure ??= causeOf(error);
    });
    return result;
  }
}

const causeOf = (error: unknown): unknown =>
  error instanceof TenantryError && error.cause !== undefined ? error.cause : error;

/** Whether the server, or the way to it, failed. What the driver refuses by itself does not end the transaction. */
function isOfServer(error: unknown): boolean {
  const cause = causeOf(error);
  if (cause instanceof TenantryError) return cause.code === 'STORE_UNAVAILABLE';
  return cause instanceof MongoServerError || cause instanceof MongoNetworkError;
}
