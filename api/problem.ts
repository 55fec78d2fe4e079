/** Failures as RFC 9457 `application/problem+json`: the one place where an error becomes an answer. */
import type { ErrorRequestHandler, Response } from 'express';
import { catalogueError } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import {
  type FieldError,
  type Problem,
  PROBLEM_TYPE,
  problemHeaders,
  problemOf as problemOfTable,
} from '../domain/problem.js';

/** More than one thing wrong with a request. */
export class ValidationError extends TenantryError {
  constructor(readonly fields: readonly [FieldError, ...FieldError[]]) {
    const [first] = fields;
    super('VALIDATION_FAILED', { detail: `${first.field}: ${first.message}.` }, { field: first.field });
  }
}

/**
 * Answers with the problem that the error is. What is not in the table becomes INTERNAL; its text, SQL and stack go
 * to the log with the request's id and never to the client.
 */
export const answerProblem: ErrorRequestHandler = (error, request, response, next) => {
  if (response.headersSent) return next(error);
  const known = toTenantryError(error);
  const problem = problemOf(known, typeof request.id === 'string' ? request.id : '');
  if (problem.status >= 500) request.log.error({ err: error instanceof Error ? error : known }, problem.code);
  sendProblem(response, problem, known);
};

export function problemOf(error: TenantryError, requestId: string): Problem {
  const problem = problemOfTable(error, `urn:uuid:${requestId}`);
  return error instanceof ValidationError ? { ...problem, errors: error.fields } : problem;
}

function sendProblem(response: Response, problem: Problem, error: TenantryError): void {
  response.status(problem.status).set(problemHeaders(error)).type(PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** What reaches the end of the chain: errors of the table, of the body parser, of the router, of a store. */
function toTenantryError(error: unknown): TenantryError {
  // The body parser's first: that of a client that hangs up has a code of the system's, as an outage has.
  const type = error instanceof Error && 'type' in error ? error.type : undefined;
  switch (type) {
    case 'entity.too.large':
      return new TenantryError('BODY_TOO_LARGE', { limit: limitOf(error) }, { cause: error });
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new TenantryError('UNSUPPORTED_MEDIA_TYPE', {}, { cause: error });
    case 'entity.parse.failed':
    case 'request.aborted':
    case 'request.size.invalid':
      return new TenantryError('INVALID_JSON', {}, { cause: error });
    default:
  }
  const mapped = catalogueError(error);
  if (mapped instanceof TenantryError) return mapped;
  // The router's: a percent sign in the path that begins no character.
  return error instanceof URIError
    ? new TenantryError('NOT_FOUND', {}, { cause: error })
    : new TenantryError('INTERNAL', {}, { cause: error });
}

const limitOf = (error: unknown): number =>
  error instanceof Error && 'limit' in error && typeof error.limit === 'number' ? error.limit : 0;
