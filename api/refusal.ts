/** Refusals of the catalogue, on their way from a workflow's update or an earlier answer to a problem. */
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { Refusal } from '../domain/contracts.js';
import { type ErrorCode, type ErrorParams, isErrorCode, TenantryError } from '../domain/errors.js';

/** The field of the request that a refusal is about. */
const FIELDS: Partial<Record<ErrorCode, string>> = { SLUG_TAKEN: 'slug', UNKNOWN_CELL: 'cell' };

export function refused({ code, params }: Refusal, cause?: unknown): TenantryError {
  const field = FIELDS[code];
  return new TenantryError(code, params, { cause, ...(field === undefined ? {} : { field }) });
}

/** The refusal in a failed update: an ApplicationFailure whose type is a code and whose first detail its parameters. */
export function refusalIn(error: unknown): TenantryError | undefined {
  if (!(error instanceof WorkflowUpdateFailedError)) return undefined;
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ApplicationFailure && isErrorCode(cause.type))
      return refused({ code: cause.type, params: paramsIn(cause.details?.[0]) }, error);
  }
  return undefined;
}

function paramsIn(detail: unknown): ErrorParams {
  if (typeof detail !== 'object' || detail === null) return {};
  return Object.fromEntries(
    Object.entries(detail).filter(([, value]) => typeof value === 'string' || typeof value === 'number'),
  );
}
