/** What a request and its response tell their listeners over a connection that several tenants' requests share. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import express, { type Express } from 'express';
import { header, tenancyProblems } from '../../../tenancy/index.js';
import { findCurrentTenant } from '../../../tenancy/context/tenant-context.js';
import { until } from '../../support/until.js';
import type { Row } from '../context/support.js';
import { openProduct, type Product } from './support.js';

let product: Product;
let acme: Row;
let beta: Row;
beforeAll(async () => {
  product = await openProduct();
  ({ acme, beta } = product);
});
afterEach(() => product.settle());
afterAll(() => product.close());

async function connectTo(make: (app: Express) => void): Promise<Socket> {
  const app = express();
  app.use(product.tenantry.tenancy({ resolve: [header('x-tenant')] }));
  make(app);
  app.use(tenancyProblems());
  const socket = connect(await product.listen(createServer(app)), '127.0.0.1');
  product.atEnd(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

const head = (line: string, { slug }: Row, more = ''): string =>
  `${line} HTTP/1.1\r\nHost: h\r\nX-Tenant: ${slug}\r\n${more}\r\n`;
const here = (): string | undefined => findCurrentTenant()?.slug;

test('a response that is written while the one before it ends is written as its own tenant', async () => {
  let begun = (): void => undefined;
  const secondBegan = new Promise<void>((resolve) => (begun = resolve));
  const seen = new Map<string, Set<string | undefined>>();
  const see = (what: string): void => void seen.set(what, (seen.get(what) ?? new Set()).add(here()));
  const socket = await connectTo((app) => {
    app.get('/first', async (_request, response) => {
      await secondBegan;
      response.end('first');
    });
    app.get('/second', (request, response) => {
      let left = 200;
      const source = new Readable({
        read() {
          see('read');
          this.push(left-- > 0 ? Buffer.alloc(16_384) : null);
        },
      });
      for (const event of ['drain', 'finish', 'close']) response.on(event, () => see(event));
      response.write('begin', () => see('written'));
      source.pipe(response);
      request.on('close', () => see('request closed'));
      setImmediate(begun);
    });
  });
  socket.write(head('GET /first', acme) + head('GET /second', beta));
  socket.resume();
  await until('the second is there', () => seen.has('close'), 5_000);
  const as = (...tenants: string[]) => new Set(tenants);
  expect(Object.fromEntries(seen)).toEqual({
    read: as(beta.slug),
    drain: as(beta.slug),
    written: as(beta.slug),
    finish: as(beta.slug),
    close: as(beta.slug),
    'request closed': as(beta.slug),
  });
});

test('a body is read as the tenant whose it is, by whatever reads it', async () => {
  const seen: unknown[] = [];
  const socket = await connectTo((app) => {
    app.post('/', (request, response) => {
      request.on('data', (chunk: Buffer) => seen.push([chunk.toString(), here()]));
      request.on('end', () => response.end('', () => seen.push(['end', here()])));
    });
  });
  for (const one of [acme, beta]) {
    socket.write(`${head('POST /', one, 'Content-Length: 2\r\n')}a`);
    await until('one half is there', () => seen.length % 3 === 1, 5_000);
    socket.write('b');
    await until('all of it is there', () => seen.length % 3 === 0, 5_000);
  }
  expect(seen).toEqual(
    [acme, beta].flatMap(({ slug }) => [
      ['a', slug],
      ['b', slug],
      ['end', slug],
    ]),
  );
});
