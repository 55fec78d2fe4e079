/** A product's Express application behind the middleware, which answers whose a request was, and a client for it. */
import { request as ask } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express, type RequestHandler } from 'express';
import { currentTenant, tenancyProblems } from '../../../tenancy/index.js';
import { ownerOf } from '../context/support.js';

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly headers: Record<string, unknown>;
  readonly body: Record<string, unknown>;
}
export type Ask = (path: string, headers?: Record<string, string>, method?: string) => Promise<Reply>;

/** @param before puts what goes ahead of the middleware on the application */
export async function serveTellingWhose(
  tenancy: RequestHandler,
  before: (app: Express) => void = () => undefined,
): Promise<{ ask: Ask; close(): Promise<void> }> {
  const app = express();
  before(app);
  app.use(tenancy);
  app.use(express.json());
  app.all(/.*/, async (request, response) => {
    await new Promise((done) => setImmediate(done));
    const { tenantId, mode, correlationId, principal, traceparent, baggage, pg } = currentTenant();
    response.json({
      tenantId,
      mode,
      correlationId,
      principal,
      traceparent,
      baggage,
      url: request.url,
      pg: ownerOf(pg),
      body: request.body as unknown,
    });
  });
  app.use(tenancyProblems());
  const server = app.listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const { port } = server.address() as AddressInfo;
  return {
    ask: (url, headers = {}, method = 'GET') => answerTo({ port, url, headers, method }),
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

function answerTo(o: {
  readonly port: number;
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly method: string;
}): Promise<Reply> {
  const { port, url: path, headers, method } = o;
  return new Promise((answered, failed) => {
    ask({ port, host: '127.0.0.1', path, method, headers }, (response) => {
      let text = '';
      response
        .setEncoding('utf8')
        .on('data', (chunk: string) => {
          text += chunk;
        })
        .on('end', () =>
          answered({
            status: response.statusCode ?? 0,
            type: response.headers['content-type'] ?? '',
            headers: response.headers,
            body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
          }),
        );
    })
      .once('error', failed)
      .end(method === 'POST' ? '{}' : undefined);
  });
}
