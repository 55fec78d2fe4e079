/** Errors of the table as Temporal failures: type = code, and whether another attempt makes sense. */
import { ApplicationFailure } from '@temporalio/common';
import type { Logger } from 'pino';
import { catalogueError } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import type { ActivityDependencies } from './dependencies.js';

/**
 * A statement on the catalogue, for an activity that is nothing else.
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
 * Only the code and the table's message go into the history; what the driver said may hold values and is logged.
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
    // A caller waits for it, and an undo is mostly over soon: not with the growing pauses for what is away.
    ...(known.code === 'UNDO_RUNNING' && { nextRetryDelay: '250ms' }),
  });
}
