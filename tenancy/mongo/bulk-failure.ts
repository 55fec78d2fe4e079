/**
 * What a bulk has failed with. The driver sends a bulk in batches and makes an error of its own of the failure of one: it
 * looks like a refused login, or like nothing that is known, whatever the batches before it have done.
 */
import { MongoBulkWriteError, MongoError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import { storeError } from '../store-error.js';
import { isLoginRefused } from './refused-login.js';

/** The failure itself when the bulk has done nothing before; otherwise one that nobody takes for "was not sent". */
export function bulkFailure(error: unknown): unknown {
  if (!(error instanceof MongoBulkWriteError)) return error;
  // What did not come from the server is kept as it was.
  const inner: unknown = error.errorResponse;
  const failure = inner instanceof MongoError ? inner : error;
  const { insertedCount, matchedCount, deletedCount, upsertedCount } = error;
  if (insertedCount + matchedCount + deletedCount + upsertedCount === 0) return failure;
  return isLoginRefused(failure)
    ? new TenantryError('STORE_UNAVAILABLE', { store: 'MongoDB' }, { cause: failure })
    : storeError('mongo', failure);
}
