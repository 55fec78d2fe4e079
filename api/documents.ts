/** Pieces of OpenAPI that the routes share. */
import { z } from 'zod';
import type { ZodOpenApiResponseObject, ZodOpenApiResponsesObject } from 'zod-openapi';
import { ERRORS, type ErrorCode } from '../domain/errors.js';
import { problemView } from '../domain/requests.js';
import { LONGEST_WAIT } from './wait.js';

export const idempotencyKey = z
  .string()
  .regex(/^[\x20-\x7e]{1,255}$/, 'must be 1 to 255 printable ASCII characters')
  .meta({
    description:
      'Sent again with the same key and body, a request gets the first answer; with another body, 422.',
    example: '0d3b6c1e-order-17',
  });

export const prefer = z.string().meta({
  description: `\`wait=N\`: wait up to N seconds (at most ${LONGEST_WAIT}) for the end.`,
  example: 'wait=10',
});

/** Problems that any request under /v1 may meet. */
const COMMON = ['UNAUTHENTICATED', 'VALIDATION_FAILED', 'CATALOGUE_UNAVAILABLE', 'INTERNAL'] as const;
/** Problems that any body may have. */
export const BODY_PROBLEMS = ['INVALID_JSON', 'BODY_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE'] as const;

/** Responses by status: those given, and each code's problem at its status in the error table. */
export function responses(
  good: Partial<Record<'200' | '201' | '202', ZodOpenApiResponseObject>>,
  codes: readonly ErrorCode[] = [],
): ZodOpenApiResponsesObject {
  const byStatus = new Map<string, ErrorCode[]>();
  for (const code of [...COMMON, ...codes]) {
    const status = String(ERRORS[code].status);
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const problems = [...byStatus].map(([status, here]) => [
    status,
    {
      description: here.map((code) => `${code}: ${ERRORS[code].message}`).join('\n\n'),
      headers: here.some((code) => ERRORS[code].retryable && status === '503') ? retryAfter : {},
      content: { 'application/problem+json': { schema: problemView } },
    } satisfies ZodOpenApiResponseObject,
  ]);
  return { ...good, ...Object.fromEntries(problems) };
}

const retryAfter = {
  'Retry-After': { description: 'Seconds after which to try again.', schema: { type: 'integer' as const } },
};

export function json(
  description: string,
  schema: z.ZodType,
  headers: readonly string[] = [],
): ZodOpenApiResponseObject {
  return {
    description,
    headers: Object.fromEntries(headers.map((name) => [name, { schema: { type: 'string' as const } }])),
    content: { 'application/json': { schema } },
  };
}
