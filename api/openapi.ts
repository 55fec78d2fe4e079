/** The OpenAPI 3.1 document, made from the schemas that validate, and its page. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Express, Response } from 'express';
import { createDocument, type ZodOpenApiPathsObject } from 'zod-openapi';
import { z } from 'zod';
import { json } from './documents.js';
import { route, type Route } from './route.js';

type OpenApi = ReturnType<typeof createDocument>;

function describeApi(routes: readonly Route[]): OpenApi {
  const paths: ZodOpenApiPathsObject = {};
  for (const { path, method, operation } of routes) paths[path] = { ...paths[path], [method]: operation };
  return createDocument({
    openapi: '3.1.0',
    info: {
      title: 'Tenantry',
      version: '1.0.0',
      description:
        'Durable multitenancy: a change to a tenant is an operation, and an operation runs to its end.',
    },
    security: [{ bearer: [] }],
    components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } },
    paths,
  });
}

/** @param all every route, this one among them when it is asked */
export function openApiRoute(all: () => readonly Route[]): Route {
  let document: OpenApi | undefined;
  return route({
    method: 'get',
    path: '/openapi.json',
    open: true,
    operation: {
      operationId: 'openapi',
      summary: 'This document',
      responses: { '200': json('OpenAPI 3.1.', z.record(z.string(), z.unknown())) },
    },
    async handle() {
      document ??= describeApi(all());
      return { status: 200, body: document };
    },
  });
}

const ASSETS = ['swagger-ui.css', 'swagger-ui-bundle.js', 'favicon-32x32.png'];

// Everything from here, nothing inline: what a description might smuggle into the page does not run.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tenantry API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
`;

const START = `SwaggerUIBundle({ url: '/openapi.json', domNode: document.getElementById('page'), validatorUrl: null });\n`;

/** The document as a page to read and try, from files of this machine. */
export function mountDocs(app: Express): void {
  const folder = dirname(require.resolve('swagger-ui-dist/package.json'));
  const serve = (path: string, send: (response: Response) => void): void => {
    app.get(path, (_request, response) => {
      response.locals['route'] = path;
      send(response.set('Content-Security-Policy', POLICY));
    });
  };
  serve('/docs', (response) => response.type('html').send(PAGE));
  serve('/docs/start.js', (response) => response.type('js').send(START));
  for (const name of ASSETS) {
    const bytes = readFileSync(join(folder, name));
    serve(`/docs/${name}`, (response) =>
      response.type(name).set('Cache-Control', 'max-age=3600').send(bytes),
    );
  }
}
