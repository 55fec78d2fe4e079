/**
 * Routes as data: one declaration gives the Express route, the checks before it, its 405 and its page of the
 * OpenAPI document, so that none of them can say something else than the others.
 */
import type { Express, Request, RequestHandler } from 'express';
import type { ZodOpenApiOperationObject } from 'zod-openapi';
import { z } from 'zod';
import { TenantryError } from '../domain/errors.js';
import { readJson } from './body.js';
import { validate } from './validate.js';

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON; a string as it is, under the content type in `headers`. */
  readonly body: unknown;
}

/** A request that passed its checks. */
export interface Call<Body, Query, Path> {
  readonly body: Body;
  readonly query: Query;
  readonly path: Path;
  readonly header: (name: string) => string | undefined;
  readonly log: Request['log'];
  /** Aborts when the client has gone away. */
  readonly gone: () => AbortSignal;
}

interface RouteSpec<B extends z.ZodType, Q extends z.ZodType, P extends z.ZodType> {
  readonly method: 'get' | 'post';
  /** As OpenAPI writes it: `/v1/operations/{id}:retry`. */
  readonly path: string;
  /** Without a token. */
  readonly open?: true;
  readonly body?: B;
  readonly query?: Q;
  readonly params?: P;
  readonly operation: ZodOpenApiOperationObject;
  handle(call: Call<z.output<B>, z.output<Q>, z.output<P>>): Promise<Answer>;
}

export interface Route {
  readonly method: 'get' | 'post';
  readonly path: string;
  readonly operation: ZodOpenApiOperationObject;
  readonly handlers: (bodyLimit: number) => RequestHandler[];
}

const nothing = z.strictObject({});

/** Declares a route. Without a schema for the query, none is taken: a parameter that is ignored is a surprise. */
export function route<B extends z.ZodType, Q extends z.ZodType, P extends z.ZodType>(
  spec: RouteSpec<B, Q, P>,
): Route {
  if (spec.open !== true && !spec.path.startsWith('/v1/'))
    throw new TypeError(`${spec.path} would need no token`);
  return {
    method: spec.method,
    path: spec.path,
    operation: { ...spec.operation, ...(spec.open === true ? { security: [] } : {}) },
    handlers: (bodyLimit) => {
      const answer: RequestHandler = async (request, response) => {
        const { status, headers, body } = await spec.handle({
          query: validate(
            spec.query ?? (spec.open === true ? z.unknown() : nothing),
            request.query,
            'query',
          ) as z.output<Q>,
          path: validate(spec.params ?? z.unknown(), request.params, 'path') as z.output<P>,
          body: validate(spec.body ?? z.unknown(), request.body, 'body') as z.output<B>,
          header: (name) => request.get(name),
          log: request.log,
          gone: () => {
            const controller = new AbortController();
            response.once('close', () => {
              if (!response.writableFinished) controller.abort();
            });
            return controller.signal;
          },
        });
        response.status(status).set(headers ?? {});
        if (typeof body === 'string') response.send(body);
        else response.json(body);
      };
      return spec.body === undefined ? [answer] : [readJson(bodyLimit), answer];
    },
  };
}

/** Puts the routes of each path on the application, and a 405 that says what the path does take. */
export function mount(app: Express, routes: readonly Route[], bodyLimit: number): void {
  for (const path of new Set(routes.map((one) => one.path))) {
    const here = routes.filter((one) => one.path === path);
    const target = app.route(expressPath(path));
    // The template, never the path: ids must not become labels of a metric.
    target.all((_request, response, next) => {
      response.locals['route'] = path;
      next();
    });
    for (const { method, handlers } of here) target[method](...handlers(bodyLimit));
    const allow = here
      .flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]))
      .join(', ');
    target.all((request, response) => {
      response.set('Allow', allow);
      throw new TenantryError('METHOD_NOT_ALLOWED', { method: request.method });
    });
  }
}

/** `/v1/operations/{id}:retry` -> `/v1/operations/:id\:retry`: a bare colon would begin a parameter. */
const expressPath = (template: string): string =>
  template.replaceAll(':', String.raw`\:`).replace(/\{(\w+)\}/g, ':$1');
