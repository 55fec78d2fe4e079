/**
 * A tenant's transaction, over one lease. The driver begins it again where the server asks for that, and leaves to its user
 * what it calls undefined: statements side by side, failures that are swallowed, statements that nobody waits for.
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
  /** Of what runs outside of it: it explains failures. */
  readonly runner: StatementRunner;
  readonly loginPatienceMs: number;
  /** After so long without a word it is given up. Milliseconds. */
  readonly idleMs: number;
}

/** @param work given the way in which its statements run; called again where the transaction begins again */
export type Work<R> = (runner: StatementRunner) => Promise<R>;

/** From there on only the server knows whether it happened. */
interface Stage {
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

/** A rotation may refuse a login on the way; then nothing of it is committed, and it begins again. */
async function onLease<R>(
  parts: TransactionParts,
  work: Work<R>,
  stage: Stage,
  signal: AbortSignal | undefined,
): Promise<R> {
  const { pool, context, runner } = parts;
  runner.refuseOthers();
  // What the work has thrown stays as it is, so its caller's signal is not asked.
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

/** The driver's word for a commit whose answer was lost; what comes of trying it again does not tell. */
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
        // What was asked for by then is part of it, whether or not it was waited for.
        await runner.settled();
        return result;
      };
      let result: R;
      try {
        const ended = silence.ends(asked);
        result = await (signal === undefined ? ended : unlessAborted(ended, signal));
      } catch (error) {
        // The driver's own error says whether the transaction may be tried again.
        throw error instanceof TenantryError && error.cause instanceof MongoError ? error.cause : error;
      } finally {
        // A statement that came behind the end would be one of the next attempt, or of no transaction.
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

/** Whatever the cell's URL says of reads: the server has no transactions elsewhere. */
const PRIMARY = { readPreference: 'primary' } as const;

const storeRefused = (reason: string, cause?: unknown): TenantryError =>
  new TenantryError('STORE_REFUSED', { store: 'MongoDB', reason }, { cause });
const leftOpen = (): TenantryError => storeRefused('its transaction was left open');

/**
 * Statements of one attempt, in turn: the driver would send them side by side, the second perhaps before the one that
 * begins the transaction.
 */
class SessionRunner implements StatementRunner {
  readonly #lease: Lease;
  readonly #session: ClientSession;
  readonly #context: TenantContext;
  #last: Promise<unknown> = Promise.resolve();
  #isOpen = true;
  /** By which the server has given up the transaction. */
  #failure: unknown;

  constructor(lease: Lease, session: ClientSession, context: TenantContext) {
    // The transaction's: releasing it here does nothing.
    this.#lease = { ...lease, hold: () => undefined, release: () => undefined };
    this.#session = session;
    this.#context = context;
  }

  /** When all that was asked for so far has ended. */
  async settled(): Promise<void> {
    await this.#last;
  }

  /** Nothing is asked from now on; what is under way has ended. */
  async end(): Promise<void> {
    this.#isOpen = false;
    await this.settled();
  }

  /** To commit what the server has given up would have the driver begin again, and fail again, for two minutes. */
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

/** What the driver refuses by itself leaves the transaction as it was. */
function isOfServer(error: unknown): boolean {
  const cause = causeOf(error);
  if (cause instanceof TenantryError) return cause.code === 'STORE_UNAVAILABLE';
  return cause instanceof MongoServerError || cause instanceof MongoNetworkError;
}
