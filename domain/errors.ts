/**
 * The error table: every failure that leaves a part of Tenantry has one of these codes.
 *
 * It maps to RFC 9457 `application/problem+json` in the API and to a Temporal `ApplicationFailure`
 * (type = code) in activities. Messages are templates over named, harmless parameters: nothing internal
 * (SQL, stack, credentials, another tenant's id) may go into one.
 */
export const ERRORS = {
  // What a caller can mend in the request.
  INVALID_JSON: { status: 400, retryable: false, message: 'The body is not valid JSON.' },
  VALIDATION_FAILED: { status: 400, retryable: false, message: 'The request is not valid: {detail}' },
  SLUG_RESERVED: { status: 400, retryable: false, message: 'The slug "{slug}" is reserved.' },
  UNKNOWN_PLAN: { status: 400, retryable: false, message: 'No plan "{plan}". Plans: {known}.' },
  UNKNOWN_CELL: { status: 400, retryable: false, message: 'There is no such cell.' },
  UNAUTHENTICATED: { status: 401, retryable: false, message: 'A valid bearer token is needed.' },
  NOT_FOUND: { status: 404, retryable: false, message: 'There is nothing at this address.' },
  TENANT_NOT_FOUND: { status: 404, retryable: false, message: 'No such tenant.' },
  OPERATION_NOT_FOUND: { status: 404, retryable: false, message: 'No such operation.' },
  METHOD_NOT_ALLOWED: { status: 405, retryable: false, message: 'This address does not take {method}.' },
  BODY_TOO_LARGE: { status: 413, retryable: false, message: 'The body is larger than {limit} bytes.' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, retryable: false, message: 'Send the body as application/json.' },
  IDEMPOTENCY_KEY_REUSED: {
    status: 422,
    retryable: false,
    message: 'This Idempotency-Key was used with another request.',
  },

  // What the state of things forbids.
  SLUG_TAKEN: { status: 409, retryable: false, message: 'The slug is taken.' },
  OPERATION_RUNNING: {
    status: 409,
    retryable: false,
    message: 'Another operation on this tenant is running: {operationId}.',
  },
  OPERATION_NOT_RETRYABLE: {
    status: 409,
    retryable: false,
    message: 'The operation is {status}; only a provisioning that failed or was cancelled can be retried.',
  },
  ILLEGAL_STATE: {
    status: 409,
    retryable: false,
    message: 'The tenant is {from}; it cannot become {to}.',
  },
  STALE_GENERATION: {
    status: 409,
    retryable: false,
    message: 'A newer operation has taken over this tenant.',
  },
  NAME_TAKEN: {
    status: 409,
    retryable: false,
    message: 'The name of a {kind} in {store} is taken by something that is not ours.',
  },
  CELL_FULL: { status: 507, retryable: false, message: 'No cell has room for another tenant.' },

  // Isolation. Never retried: a human looks first.
  ISOLATION_NOT_ENFORCED: {
    status: 503,
    retryable: false,
    message:
      'The cell "{cell}" takes no tenant: its MongoDB server did not refuse {notRefused}. ' +
      'Use a server that enforces users and roles, or set TENANTRY_CELL_MONGO_ENFORCEMENT=guard knowingly.',
  },
  ISOLATION_BREACH: {
    status: 500,
    retryable: false,
    message: 'A probe found that {store} let one tenant reach another ({probe}).',
  },
  VERIFICATION_FAILED: {
    status: 500,
    retryable: true,
    message: 'What {store} holds is not what the ledger says: {detail}.',
  },

  // The data plane.
  NO_TENANT_CONTEXT: {
    status: 500,
    retryable: false,
    message: 'No tenant context: enter one with runWithTenant or the tenancy middleware.',
  },
  NESTED_TENANT_CONTEXT: {
    status: 500,
    retryable: false,
    message: 'Another tenant is entered already; leave it with asPlatform and a reason first.',
  },
  TENANT_AMBIGUOUS: {
    status: 400,
    retryable: false,
    message: 'The request names two different tenants ({sources}).',
  },
  TENANT_SUSPENDED: { status: 403, retryable: false, message: 'The tenant is suspended ({mode}).' },
  TENANT_INACTIVE: { status: 403, retryable: false, message: 'The tenant is deactivated.' },
  TENANT_GONE: { status: 410, retryable: false, message: 'The tenant has been deleted.' },
  TENANT_NOT_READY: { status: 503, retryable: true, message: 'The tenant is not ready yet.' },
  CONTEXT_REFUSED: {
    status: 401,
    retryable: false,
    message: 'A handed-on tenant context is refused: {reason}.',
  },
  STATEMENT_REFUSED: {
    status: 500,
    retryable: false,
    message: 'A statement for {store} was refused before it was sent: {reason}.',
  },
  QUOTA_EXCEEDED: { status: 429, retryable: false, message: 'The quota of {what} is used up.' },
  CLIENTS_EXHAUSTED: {
    status: 503,
    retryable: true,
    message: 'Every connection to {store} is in use; none became free in time.',
  },

  // What passes.
  CELL_NOT_READY: { status: 503, retryable: true, message: 'The cell is still being prepared.' },
  ADMISSION_TIMEOUT: {
    status: 503,
    retryable: true,
    message: 'The request was not admitted in time and has been withdrawn.',
  },
  UNDO_RUNNING: {
    status: 503,
    retryable: true,
    message: 'What an earlier attempt at the operation made is still being removed.',
  },
  CATALOGUE_UNAVAILABLE: { status: 503, retryable: true, message: 'The catalogue cannot be reached.' },
  ENGINE_UNAVAILABLE: { status: 503, retryable: true, message: 'Temporal cannot be reached.' },
  STORE_UNAVAILABLE: {
    status: 503,
    retryable: true,
    message: '{store} cannot be reached, or takes no statements for now.',
  },
  STEP_TIMED_OUT: {
    status: 503,
    retryable: true,
    message:
      'No attempt at the step "{step}" came to its end in time: a server that it needs hangs, or its worker does.',
  },
  STORE_REFUSED: {
    status: 500,
    retryable: false,
    message: '{store} refused a statement ({reason}).',
  },
  BATCH_INCOMPLETE: {
    status: 500,
    retryable: false,
    message: '{failed} of {total} tenants were not provisioned; the results say why.',
  },
  CANCELLED: { status: 409, retryable: false, message: 'The operation was cancelled.' },
  INTERNAL: { status: 500, retryable: true, message: 'Something unexpected happened.' },
} as const satisfies Record<string, { status: number; retryable: boolean; message: string }>;

export type ErrorCode = keyof typeof ERRORS;
export type ErrorParams = Readonly<Record<string, string | number>>;

/** An error with a code from the table; the only kind that may cross a room's door. */
export class TenantryError extends Error {
  override readonly name = 'TenantryError';
  readonly code: ErrorCode;
  readonly params: ErrorParams;
  /** The request's field at fault, as a path such as `tenants[3].slug`. */
  readonly field: string | undefined;

  constructor(code: ErrorCode, params: ErrorParams = {}, options: { cause?: unknown; field?: string } = {}) {
    super(describe(code, params), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.params = params;
    this.field = options.field;
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
}

/** What is kept of a failure in the catalogue and shown by the API. */
export interface RecordedError {
  readonly code: ErrorCode;
  readonly message: string;
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value);
}

/** The message of a code with its parameters filled in. */
export function describe(code: ErrorCode, params: ErrorParams = {}): string {
  return ERRORS[code].message.replace(/\{(\w+)\}/g, (_, name: string) => String(params[name] ?? '?'));
}

/** A failure in a form that may be stored and shown: an unknown one becomes INTERNAL, its text stays in the log. */
export function toRecordedError(error: unknown): RecordedError {
  return error instanceof TenantryError
    ? { code: error.code, message: error.message }
    : { code: 'INTERNAL', message: describe('INTERNAL') };
}
