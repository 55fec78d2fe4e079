/** What a failure seen by a workflow means, in the words of the error table. */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  patched,
  TimeoutFailure,
} from '@temporalio/workflow';
import type { Activities, AdmitArgs, Refusal } from '../domain/contracts.js';
import type { OperationId } from '../domain/ids.js';
import { describe, ERRORS, isErrorCode, type ErrorParams, type RecordedError } from '../domain/errors.js';

/** A refusal or failure as the error that ends an update or a run; never tried again by Temporal. */
export const failureOf = ({ code, params }: Refusal): ApplicationFailure =>
  ApplicationFailure.create({
    type: code,
    message: describe(code, params),
    nonRetryable: true,
    details: [params],
  });

/**
 * Validates an admission. A retry may reach the run of the attempt before it, which has not ended yet. An update that the
 * validator refuses is in no history, so the caller can ask again under the same update id and reach the next run.
 */
export const refuseLaterAttempt =
  (run: { readonly operationId: OperationId; readonly attempt: number }) =>
  ({ operationId, attempt = run.attempt }: AdmitArgs): void => {
    if (operationId === run.operationId && attempt > run.attempt)
      throw failureOf({ code: 'OPERATION_RUNNING', params: { operationId } });
  };

/** The entry of the error table that says most about a failure; INTERNAL where none does. */
export function refusalOf(error: unknown): Refusal {
  if (isCancellation(error)) return { code: 'CANCELLED', params: {} };
  let known: Refusal | undefined;
  let late: Refusal | undefined;
  // The innermost application failure says most: a time-out has the last attempt's failure as its cause.
  for (let inner: unknown = error; ; inner = (inner as Error).cause) {
    if (inner instanceof ApplicationFailure && isErrorCode(inner.type))
      known = { code: inner.type, params: (inner.details?.[0] ?? {}) as ErrorParams };
    if (inner instanceof ActivityFailure && inner.cause instanceof TimeoutFailure)
      late = { code: 'STEP_TIMED_OUT', params: { step: stepOf(inner.activityType) } };
    if (!(inner instanceof Error) || inner.cause === undefined)
      return known ?? late ?? { code: 'INTERNAL', params: {} };
    if (known !== undefined && !(inner instanceof ActivityFailure)) return known;
  }
}

/** Activities whose attempts may all be too late, by the names that their steps have in the catalogue. */
const STEPS = {
  provisionPostgres: 'postgres',
  provisionMongo: 'mongo',
  provisionRedis: 'redis',
  verifyTenant: 'verify',
  undoPostgres: 'undo-postgres',
  undoMongo: 'undo-mongo',
  undoRedis: 'undo-redis',
  batchPostgres: 'postgres',
  batchMongo: 'mongo',
  batchRedis: 'redis',
  batchVerify: 'verify',
  batchUndo: 'undo',
  probeCell: 'probe',
} satisfies Partial<Record<keyof Activities, string>>;

const stepOf = (activity: string): string =>
  (STEPS as Readonly<Record<string, string>>)[activity] ?? activity;

/**
 * The error that a run ends with. Temporal does not retry an attempt that fails after its cancellation was requested: it reports
 * that failure in place of the cancellation. If the failure is one that would have been retried, the run counts as cancelled.
 */
export function endedBy(error: unknown): unknown {
  if (isCancellation(error) || !CancellationScope.current().consideredCancelled) return error;
  if (!ERRORS[refusalOf(error).code].retryable || !patched('cancelled-as-an-attempt-failed')) return error;
  return new CancelledFailure('cancelled', [], error instanceof Error ? error : undefined);
}

/** The error as the catalogue keeps it and the API shows it. */
export function recordedError(error: unknown): RecordedError {
  const { code, params } = refusalOf(error);
  return { code, message: describe(code, params) };
}
