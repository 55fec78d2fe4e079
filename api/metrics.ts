/** How long requests take, by route template and status: a path with ids in it never becomes a label. */
import type { RequestHandler } from 'express';
import { Histogram, type Registry } from 'prom-client';

export function measureRequests(registry: Registry): RequestHandler {
  const duration = new Histogram({
    name: 'tenantry_http_request_duration_seconds',
    help: 'From the head of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  return (request, response, next) => {
    const stop = duration.startTimer();
    response.once('close', () => {
      const route: unknown = response.locals['route'];
      stop({
        method: request.method,
        route: typeof route === 'string' ? route : 'none',
        // A client that left before its answer saw none.
        status: response.writableFinished ? String(response.statusCode) : 'aborted',
      });
    });
    next();
  };
}
