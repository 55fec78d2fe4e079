/** Errors of the error table as Temporal failures: the type is the code, and the table says whether a retry makes sense. */
import { ApplicationFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import { catalogueError } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import type { ActivityDependencies } from './dependencies.js';

/**
 * Runs a statement on the catalogue for an activity that does nothing else.
 * @throws ApplicationFailure
 */
export function inCatalogue<T>(
  { log }: Pick<ActivityDependencies, 'log'>,
  activity: string,
  statement: Promise<T>,
): Promise<T> {
  return statement.catch((error: unknown) => {
    throw toApplicationFailure(catalogueError(error), log, activity);
  });
}

/**
 * Only the code and the table's message go into the run's history. The driver's message may hold values, so it is only logged.
 */
export function toApplicationFailure(error: unknown, log: Logger, activity: string): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  if (!(error instanceof TenantryError))
    log.error({ err: error, activity }, 'an activity failed unexpectedly');
  else log.warn({ activity, code: error.code, cause: error.cause }, error.message);
  const known = error instanceof TenantryError ? error : new TenantryError('INTERNAL');
  return ApplicationFailure.create({
    message: known.message,
    type: known.code,
    nonRetryable: !known.retryable,
    details: [known.params],
    // An undo is mostly over soon and a caller is waiting, so not with the growing pauses that are meant for outages.
    ...(known.code === 'UNDO_RUNNING' && { nextRetryDelay: '250ms' }),
  });
}
