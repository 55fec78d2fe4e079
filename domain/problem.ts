/** Errors of the table as RFC 9457 problems: the body and headers, whoever answers with them. */
import { ERRORS, type ErrorCode, type TenantryError } from './errors.js';

/** A field at fault, as a path such as `tenants[3].slug`, or the name of a header. */
export interface FieldError {
  readonly field: string;
  readonly message: string;
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly instance?: string;
  readonly errors?: readonly FieldError[];
  readonly operation?: string;
  /** What a suspension leaves. */
  readonly mode?: string;
}

export const PROBLEM_TYPE = 'application/problem+json';

/** Seconds after which a caller may try again what could not be done now. */
const RETRY_AFTER = 2;

/** @param instance a URI that names this one occurrence */
export function problemOf(error: TenantryError, instance: string): Problem {
  const { params, code } = error;
  return {
    type: `urn:tenantry:problem:${code.toLowerCase().replaceAll('_', '-')}`,
    title: code.charAt(0) + code.slice(1).toLowerCase().replaceAll('_', ' '),
    status: ERRORS[code].status,
    code,
    detail: error.message,
    instance,
    ...(error.field === undefined ? {} : { errors: [{ field: error.field, message: error.message }] }),
    ...(code === 'OPERATION_RUNNING' && params['operationId'] !== undefined
      ? { operation: `/v1/operations/${params['operationId']}` }
      : {}),
    ...(code === 'TENANT_SUSPENDED' ? { mode: String(params['mode'] ?? 'blocked') } : {}),
  };
}

/** Headers that belong to the status. */
export function problemHeaders(error: TenantryError): Record<string, string> {
  const { status } = ERRORS[error.code];
  if (status === 401) return { 'WWW-Authenticate': 'Bearer realm="tenantry"' };
  return status === 503 && error.retryable ? { 'Retry-After': String(RETRY_AFTER) } : {};
}
