/** How a product answers what the data plane refused (RFC 9457). */
import type { ErrorRequestHandler, Response } from 'express';
import { TenantryError } from '../../domain/errors.js';
import { PROBLEM_TYPE, problemHeaders, problemOf } from '../../domain/problem.js';
import { findCurrentTenant } from '../context/tenant-context.js';

export function sendProblem(response: Response, error: TenantryError, correlationId: string): void {
  const { status, headers, body } = answerTo(error, correlationId);
  response.status(status).set(headers).type(PROBLEM_TYPE).send(body);
}

/** What a refusal is answered with, but for the type and length of its body. */
export function answerTo(error: TenantryError, correlationId: string) {
  const problem = problemOf(error, `urn:tenantry:correlation:${correlationId}`);
  return {
    status: problem.status,
    // A shared cache may keep a 404 or a 410 unasked, and would give it to another tenant or on another day.
    headers: { 'Cache-Control': 'no-store', ...problemHeaders(error) },
    body: JSON.stringify(problem),
  };
}

/** For the end of the chain: answers what the data plane threw in a handler, and passes on all else. */
export function tenancyProblems(): ErrorRequestHandler {
  return (error, _request, response, next) => {
    if (!(error instanceof TenantryError) || response.headersSent) return next(error);
    sendProblem(response, error, findCurrentTenant()?.correlationId ?? 'none');
  };
}
