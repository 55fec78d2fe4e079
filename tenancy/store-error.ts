/**
 * Failures of the stores as errors of the table: which are worth another try and which are not. The text of the
 * driver stays in `cause`, for the log; it may hold values and never goes further.
 */
import { types } from 'node:util';
import { MongoNetworkError, MongoServerError, MongoServerSelectionError, MongoError } from 'mongodb';
import { DatabaseError } from 'pg';
import { isPostgresOutage } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import type { StoreName } from '../domain/operation.js';
import { isSystemError } from '../domain/system-error.js';

const TITLES = { postgres: 'PostgreSQL', mongo: 'MongoDB', redis: 'Redis' } as const;
export const storeTitle = (store: StoreName): string => TITLES[store];

export function storeError(store: StoreName, error: unknown): TenantryError {
  if (error instanceof TenantryError) return error;
  if (OUTAGE[store](error))
    return new TenantryError('STORE_UNAVAILABLE', { store: TITLES[store] }, { cause: error });
  return new TenantryError(
    'STORE_REFUSED',
    { store: TITLES[store], reason: reasonOf(error) },
    { cause: error },
  );
}

/** Work in one store, whose failures become errors of the table. */
export async function inStore<T>(store: StoreName, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw storeError(store, error);
  }
}

const OUTAGE: Record<StoreName, (error: unknown) => boolean> = {
  postgres: isPostgresOutage,
  mongo: isMongoOutage,
  redis: isRedisOutage,
};

/**
 * Unreachable, shutting down, stepping down, or full. Codes: 6, 7, 89, 9001 network; 91, 11600, 11602 shutdown; 133, 189,
 * 10107, 13435, 13436 elections, 276 an index whose building one aborted; 24, 50, 64, 262 time limits; 14031 disk full;
 * 112 write conflict; 46, 117 lock busy; 215 a database that is still being dropped; 11601 killed by an operator, as
 * SQLSTATE 57014 is; 43 a cursor that the server lost, as by a restart between two of its batches.
 */
const MONGO_PASSING = new Set([
  6, 7, 24, 43, 46, 50, 64, 89, 91, 112, 117, 133, 189, 215, 262, 276, 9001, 10107, 11600, 11601, 11602,
  13435, 13436, 14031,
]);

function isMongoOutage(error: unknown): boolean {
  if (error instanceof MongoNetworkError || error instanceof MongoServerSelectionError) return true;
  if (error instanceof MongoServerError)
    return MONGO_PASSING.has(Number(error.code)) || error.hasErrorLabel('RetryableWriteError');
  // The driver's own: pool cleared, connection closed, client closed under us.
  if (error instanceof MongoError) return /Pool|Connect|Closed|Topology|Timeout/.test(error.name);
  // A write into a socket that was just cut comes as the system said it, the driver's name not on it.
  return isSystemError(error);
}

const REDIS_PASSING = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|OOM|MISCONF|NOREPLICAS)\b/;

function isRedisOutage(error: unknown): boolean {
  if (!types.isNativeError(error)) return false;
  return (
    REDIS_PASSING.test(error.message) ||
    isSystemError(error) ||
    error.name === 'MaxRetriesPerRequestError' ||
    /Connection is closed|Command timed out|aborted due to connection close|Stream isn't writeable|connect ETIMEDOUT/i.test(
      error.message,
    )
  );
}

/** A word about the failure without values: an SQLSTATE, a MongoDB code name, the first word of a Redis error. */
function reasonOf(error: unknown): string {
  if (error instanceof DatabaseError) return `SQLSTATE ${error.code ?? '?'}`;
  if (error instanceof MongoServerError) return `code ${String(error.code)} ${error.codeName ?? ''}`.trim();
  // Of Redis' own replies alone: elsewhere the first word may be anybody's.
  if (error instanceof Error)
    return (error.name === 'ReplyError' && /^[A-Z]{3,}\b/.exec(error.message)?.[0]) || error.name;
  return 'unknown';
}
