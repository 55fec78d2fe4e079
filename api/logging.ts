/** One log line for each request: what was asked and how it ended, never bodies, tokens or query strings. */
import { randomUUID } from 'node:crypto';
import type { RequestHandler } from 'express';
import type { Logger } from 'pino';
import { pinoHttp } from 'pino-http';
import { describeError } from '../domain/log.js';

/** Asked every few seconds by machines; worth a line only when something is wrong. */
const QUIET = new Set(['/livez', '/readyz', '/metrics']);

export function logRequests(logger: Logger): RequestHandler {
  return pinoHttp({
    logger,
    // Ours, never the caller's: an id that is chosen outside could be made to collide.
    genReqId: (_request, response) => {
      const id = randomUUID();
      response.setHeader('X-Request-Id', id);
      return id;
    },
    serializers: {
      req: (request: { id: string; method: string; url: string }) => ({
        id: request.id,
        method: request.method,
        path: request.url.split('?', 1)[0]?.slice(0, 200),
      }),
      res: (response: { statusCode: number }) => ({ status: response.statusCode }),
      // pino-http puts one of its own in the place of the logger's, which shows all that hangs on an error.
      err: (error: unknown) =>
        describeError(error !== null && typeof error === 'object' && 'raw' in error ? error.raw : error),
    },
    // The cause of a 5xx is logged where it is met, with its stack; here it would come a second time.
    customErrorObject: (_request, _response, _error, value: Record<string, unknown>) => ({
      ...value,
      err: undefined,
    }),
    customLogLevel: (request, response) => {
      if (response.statusCode >= 500) return 'warn';
      return QUIET.has(request.url ?? '') ? 'trace' : 'info';
    },
  });
}
