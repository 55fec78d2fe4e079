/** Runs a tenant's statements over leased clients: those that were certainly not sent are sent again, failures get a code. */
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

/** Where statements run: on a lease for each, or in a transaction on the lease and session of that. */
export interface StatementRunner {
  run<T>(
    statement: Statement,
    work: (login: Login, session: ClientSession | undefined) => Promise<T>,
  ): Promise<T>;
  /** For a cursor, which goes on after `work`. In a transaction the lease is the transaction's and releasing it does nothing. */
  begin<T>(
    statement: Statement,
    work: (lease: Lease, session: ClientSession | undefined) => Promise<T>,
  ): Promise<T>;
  /** What a cursor asks after that, over the lease that it was begun on. */
  goOn<T>(lease: Lease, work: () => Promise<T>): Promise<T>;
  failure(statement: Statement, error: unknown): Promise<unknown>;
  /** For what is kept: a handle or cursor of one tenant is not used on behalf of another. @throws NESTED_TENANT_CONTEXT */
  refuseOthers(): void;
}

/**
 * Asks the directory again, after a server has refused a tenant: throws TENANT_SUSPENDED, TENANT_GONE and the like where
 * that is why.
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
        // Where the caller has gone the statement may still be under way: it releases its lease itself.
        if (!isAborted(statement.signal)) lease.release();
        isSentAgain ??= createRetries(patienceMs);
        if (isSentAgain(error)) continue;
        throw await failure(statement, error);
      }
    }
    // A login that is refused for good is also how a tenant's end looks.
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
          // Bounded also after its caller has gone, or its lease would never end.
          const working = lease.bound(work(lease.login, undefined));
          return statement.signal === undefined ? working : untilAborted(working, lease, statement.signal);
        },
        'with the work',
      ),
  };
}

/** @throws TenantryError TENANT_SUSPENDED: the server would refuse it as well, with fewer words */
export function refuseWrites(context: TenantContext, { write }: Statement): void {
  if (write && context.mode === 'read-only')
    throw new TenantryError('TENANT_SUSPENDED', { mode: 'read-only' });
}

/**
 * The caller is free at once; the lease ends when the statement has, so that its client is not closed under it. Of a
 * write that was given up nobody knows whether it happened.
 */
function untilAborted<T>(work: Promise<T>, lease: Lease, signal: AbortSignal): Promise<T> {
  return unlessAborted(
    work.finally(() => lease.release()),
    signal,
  );
}

/** Unauthorized */
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
      // That the catalogue is away explains nothing.
      if (told instanceof TenantryError && !told.retryable) return told;
    }
  }
  return mapped(error);
}

const isRefusalOfTenant = (error: unknown): boolean =>
  isLoginRefused(error) || (error instanceof MongoServerError && error.code === UNAUTHORIZED);

/** The driver's and BSON's errors get a code of the table; what a caller's own code has thrown stays as it is. */
export function mapped(error: unknown): unknown {
  if (error instanceof MongoError || isSystemError(error)) return storeError('mongo', error);
  // A document that is too large runs out of the serialiser's buffer.
  if (types.isNativeError(error) && /^BSON|^RangeError$/.test(error.name)) return storeError('mongo', error);
  return error;
}
