/** What a failure seen by a workflow means, in the words of the error table. */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  patched,
} from '@temporalio/workflow';
import type { AdmitArgs, Refusal } from '../domain/contracts.js';
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
 * For the validator of an admission: the next attempt at the operation may meet the run of this one, which has not come to
 * its end. Refused there, the update is in no history, and is heard by the next run when it is asked for again under its id.
 */
export const notTheNext =
  (run: { readonly operationId: OperationId; readonly attempt: number }) =>
  ({ operationId, attempt = run.attempt }: AdmitArgs): void => {
    if (operationId === run.operationId && attempt > run.attempt)
      throw failureOf({ code: 'OPERATION_RUNNING', params: { operationId } });
  };

export function refusalOf(error: unknown): Refusal {
  if (isCancellation(error)) return { code: 'CANCELLED', params: {} };
  // The innermost application failure says most: a time-out carries the last attempt's failure as its cause.
  for (let inner: unknown = error, known: Refusal | undefined; ; inner = (inner as Error).cause) {
    if (inner instanceof ApplicationFailure && isErrorCode(inner.type))
      known = { code: inner.type, params: (inner.details?.[0] ?? {}) as ErrorParams };
    if (!(inner instanceof Error) || inner.cause === undefined)
      return known ?? { code: 'INTERNAL', params: {} };
    if (known !== undefined && !(inner instanceof ActivityFailure)) return known;
  }
}

/**
 * Why a run of which this is the end has ended. An attempt that fails when its cancellation has been asked for is not tried again
 * by Temporal, so that what it met comes out in the place of the cancellation, unless it is for good.
 */
export function endedBy(error: unknown): unknown {
  if (isCancellation(error) || !CancellationScope.current().consideredCancelled) return error;
  if (!ERRORS[refusalOf(error).code].retryable || !patched('cancelled-as-an-attempt-failed')) return error;
  return new CancelledFailure('cancelled', [], error instanceof Error ? error : undefined);
}

export function recordedError(error: unknown): RecordedError {
  const { code, params } = refusalOf(error);
  return { code, message: describe(code, params) };
}
