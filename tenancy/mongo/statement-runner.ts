/** Runs a tenant's statements on leased clients. Statements that were certainly not sent are sent again; failures get a code. */
import { types } from 'node:util';
import { type ClientSession, MongoError, MongoServerError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { isSystemError } from '../../domain/system-error.js';
import { type AccessMode, refuseOtherTenants, type TenantContext } from '../context/tenant-context.js';
import { isAborted, reasonOf } from '../signal.js';
import { storeError } from '../store-error.js';
import type { ClientPool } from './client-pool.js';
import type { Login } from './login.js';
import { createRetries, isLoginRefused } from './refused-login.js';
import type { Lease } from './seat.js';
import { unlessAborted } from './signal.js';

export interface Statement {
  readonly write: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Runs statements: each on a lease of its own, or all of a transaction on its lease and session. */
export interface StatementRunner {
  run<T>(
    statement: Statement,
    work: (login: Login, session: ClientSession | undefined) => Promise<T>,
  ): Promise<T>;
  /** For a cursor, which keeps the lease after `work`. In a transaction, releasing it does nothing. */
  begin<T>(
    statement: Statement,
    work: (lease: Lease, session: ClientSession | undefined) => Promise<T>,
  ): Promise<T>;
  /** A later call of a cursor, on the lease that it was begun on. */
  goOn<T>(lease: Lease, work: () => Promise<T>): Promise<T>;
  failure(statement: Statement, error: unknown): Promise<unknown>;
  /**
   * Refuses a handle or cursor that was kept and is now used in another tenant's context.
   * @throws TenantryError NESTED_TENANT_CONTEXT
   */
  refuseOthers(): void;
}

/**
 * Asks the directory again after a server has refused a tenant. Throws TENANT_SUSPENDED, TENANT_GONE and the like where that is
 * the reason.
 */
export type AskAccess = (tenantId: TenantId) => AccessMode | Promise<AccessMode>;

export function createRunner(
  pool: ClientPool,
  context: TenantContext,
  patienceMs: number,
  askAccess: AskAccess | undefined,
): StatementRunner {
  const failure = (statement: Statement, error: unknown): Promise<unknown> =>
    explain(context, askAccess, statement, error);
  const onLease = async <T>(
    statement: Statement,
    work: (lease: Lease) => Promise<T>,
    ends: 'with the work' | 'later',
  ): Promise<T> => {
    refuseOtherTenants(context.tenantId);
    refuseWrites(context, statement);
    for (let isSentAgain: ReturnType<typeof createRetries> | undefined; ; ) {
      const leased = pool.lease(context.tenantId, statement.signal);
      const lease = 'login' in leased ? leased : await leased.catch((error: unknown) => rethrow(error));
      try {
        const result = await work(lease);
        if (ends === 'with the work') lease.release();
        return result;
      } catch (error) {
        if (isLoginRefused(error)) lease.refuse();
        // After an abort the statement may still be under way. It releases its lease itself when it ends.
        if (!isAborted(statement.signal)) lease.release();
        isSentAgain ??= createRetries(patienceMs);
        if (isSentAgain(error)) continue;
        throw await failure(statement, error);
      }
    }
    // A login that is refused for good may mean that the tenant is gone: the directory is asked.
    async function rethrow(error: unknown): Promise<never> {
      throw await failure(statement, error);
    }
  };
  return {
    begin: (statement, work) => onLease(statement, (lease) => lease.bound(work(lease, undefined)), 'later'),
    goOn: (lease, work) => lease.bound(work()),
    failure,
    refuseOthers: () => refuseOtherTenants(context.tenantId),
    run: (statement, work) =>
      onLease(
        statement,
        (lease) => {
          // Bounded even after an abort, or the lease might never end.
          const working = lease.bound(work(lease.login, undefined));
          return statement.signal === undefined ? working : untilAborted(working, lease, statement.signal);
        },
        'with the work',
      ),
  };
}

/** @throws TenantryError TENANT_SUSPENDED, which says more than the server's own refusal would */
export function refuseWrites(context: TenantContext, { write }: Statement): void {
  if (write && context.mode === 'read-only')
    throw new TenantryError('TENANT_SUSPENDED', { mode: 'read-only' });
}

/**
 * The caller is free at once. The lease ends with the statement, so that the client is not closed under it. A write that was
 * given up may have happened.
 */
function untilAborted<T>(work: Promise<T>, lease: Lease, signal: AbortSignal): Promise<T> {
  return unlessAborted(
    work.finally(() => lease.release()),
    signal,
  );
}

/** The server's code Unauthorized. */
const UNAUTHORIZED = 13;

async function explain(
  context: TenantContext,
  askAccess: AskAccess | undefined,
  { write, signal }: Statement,
  error: unknown,
): Promise<unknown> {
  if (isAborted(signal)) return reasonOf(signal);
  const refused = error instanceof TenantryError ? error.cause : error;
  if (askAccess !== undefined && isRefusalOfTenant(refused)) {
    try {
      const mode = await askAccess(context.tenantId);
      if (write && mode === 'read-only')
        return new TenantryError('TENANT_SUSPENDED', { mode }, { cause: refused });
    } catch (told) {
      // If the catalogue is away, that does not explain the server's refusal.
      if (told instanceof TenantryError && !told.retryable) return told;
    }
  }
  return mapped(error);
}

const isRefusalOfTenant = (error: unknown): boolean =>
  isLoginRefused(error) || (error instanceof MongoServerError && error.code === UNAUTHORIZED);

/** Gives the driver's and BSON's errors a code of the error table. What a caller's own code has thrown stays as it is. */
export function mapped(error: unknown): unknown {
  if (error instanceof MongoError || isSystemError(error)) return storeError('mongo', error);
  // A document that is too large runs out of the serialiser's buffer.
  if (types.isNativeError(error) && /^BSON|^RangeError$/.test(error.name)) return storeError('mongo', error);
  return error;
}
