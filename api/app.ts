/** The Express application: what stands before every route, the routes, and what an error becomes. */
import express, { type Express } from 'express';
import { Registry } from 'prom-client';
import { TenantryError } from '../domain/errors.js';
import { requireBearer } from './auth.js';
import type { ApiDeps } from './deps.js';
import { logRequests } from './logging.js';
import { measureRequests } from './metrics.js';
import { mountDocs, openApiRoute } from './openapi.js';
import { answerProblem } from './problem.js';
import { mount, type Route } from './route.js';
import { batchRoutes } from './routes/batch.js';
import { healthRoutes } from './routes/health.js';
import { operationRoutes } from './routes/operations.js';
import { tenantRoutes } from './routes/tenants.js';

export type { ApiDeps } from './deps.js';

export function createApp(deps: ApiDeps): Express {
  const app = express();
  app.disable('x-powered-by');
  // Nothing is to be stored, so nothing is asked for again by its tag.
  app.disable('etag');
  // One spelling for each address: what compares paths need not know of others.
  app.enable('case sensitive routing');
  app.enable('strict routing');
  const registry = deps.registry ?? new Registry();

  app.use(logRequests(deps.logger), measureRequests(registry), (_request, response, next) => {
    response.set({
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
      'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
      'Cache-Control': 'no-store',
    });
    next();
  });
  app.use('/v1', requireBearer(deps.config.TENANTRY_API_TOKEN));

  const routes: Route[] = [
    ...tenantRoutes(deps),
    ...batchRoutes(deps),
    ...operationRoutes(deps),
    ...healthRoutes(deps, registry),
    openApiRoute(() => routes),
  ];
  mount(app, routes, deps.config.TENANTRY_API_BODY_LIMIT);
  mountDocs(app);

  app.use(() => {
    throw new TenantryError('NOT_FOUND');
  });
  app.use(answerProblem);
  return app;
}
