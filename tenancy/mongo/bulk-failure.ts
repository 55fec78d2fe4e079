/**
 * The error that a bulk write fails with. The driver sends a bulk in batches and wraps the failure of a batch in an error of its
 * own. That error does not say clearly whether earlier batches have written anything, and may look like a refused login.
 */
import { MongoBulkWriteError, MongoError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import { storeError } from '../store-error.js';
import { isLoginRefused } from './refused-login.js';

/** The failure itself when the bulk has written nothing; otherwise an error that is never taken for "was not sent". */
export function bulkFailure(error: unknown): unknown {
  if (!(error instanceof MongoBulkWriteError)) return error;
  // Where the driver has wrapped an error, it keeps it as `errorResponse`.
  const inner: unknown = error.errorResponse;
  const failure = inner instanceof MongoError ? inner : error;
  const { insertedCount, matchedCount, deletedCount, upsertedCount } = error;
  if (insertedCount + matchedCount + deletedCount + upsertedCount === 0) return failure;
  return isLoginRefused(failure)
    ? new TenantryError('STORE_UNAVAILABLE', { store: 'MongoDB' }, { cause: failure })
    : storeError('mongo', failure);
}
