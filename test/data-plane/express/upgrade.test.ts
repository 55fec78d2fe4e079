/** Connections that stay: WebSockets and Server-Sent Events, each of them one tenant's from its beginning to its end. */
import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import express from 'express';
import { WebSocket, WebSocketServer } from 'ws';
import { findCurrentTenant } from '../../../tenancy/context/tenant-context.js';
import { createUpgrade, type TakeUpgrade } from '../../../tenancy/express/upgrade.js';
import { bindTenant, claim, header, path, type Resolver, subdomain } from '../../../tenancy/index.js';
import { createLogger } from '../../../domain/log.js';
import { exchange } from '../../support/exchange.js';
import { until } from '../../support/until.js';
import { change, insertTenant } from '../context/support.js';
import { openProduct, type Product } from './support.js';

let product: Product;
beforeAll(async () => {
  product = await openProduct();
});
afterEach(() => product.settle());
afterAll(() => product.close());

const here = (): string => findCurrentTenant()?.slug ?? 'nobody';

/** @returns the port */
async function upgrading(
  take: TakeUpgrade,
  resolve: readonly [Resolver, ...Resolver[]] = [header('x-tenant')],
  before: (request: IncomingMessage) => void = () => undefined,
): Promise<number> {
  const server = createServer((_request, response) => response.end(here()));
  const onUpgrade = product.tenantry.upgrade({ resolve }, take);
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    product.atEnd(() => socket.destroy());
    before(request);
    onUpgrade(request, socket, head);
  });
  return product.listen(server);
}

const UPGRADE = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
const asking = (target: string, ...lines: string[]): string =>
  `GET ${target} HTTP/1.1\r\n${['Host: h', ...lines].join('\r\n')}\r\n${UPGRADE}\r\n`;
const greeting: TakeUpgrade = (_request, socket) => void socket.end(`HTTP/1.1 101 Hello\r\n\r\n${here()}`);

describe('a WebSocket', () => {
  test('is its tenant’s: what it hears and is told it hears as that one, among others’', async () => {
    const { acme, beta } = product;
    const shared = new EventEmitter();
    const heard: string[] = [];
    const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });
    const port = await upgrading((request, socket, head) =>
      sockets.handleUpgrade(request, socket, head, (one) => {
        one.on('message', (data: Buffer) => {
          const first = here();
          setImmediate(() => one.send(`${String(data).length} ${first} ${here()}`));
        });
        one.on('ping', () => heard.push(`ping ${here()}`));
        one.on('close', () => heard.push(`close ${here()}`));
        shared.on(
          'news',
          bindTenant(() => one.send(`news ${here()}`)),
        );
      }),
    );
    const clients = [acme, beta, acme].map(({ slug }) => {
      const client = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { 'x-tenant': slug } });
      product.atEnd(() => client.terminate());
      const said: string[] = [];
      client.on('message', (data: Buffer) => said.push(String(data)));
      return { client, slug, said };
    });
    await Promise.all(clients.map(({ client }) => once(client, 'open')));
    for (let i = 1; i <= 20; i++) for (const { client } of clients) client.send('x'.repeat(i * 10_000));
    for (const { client } of clients) client.ping();
    await until('all is answered', () => clients.every(({ said }) => said.length === 20), 5_000);
    shared.emit('news');
    await until('the news are there', () => clients.every(({ said }) => said.length === 21), 5_000);
    for (const { client } of clients) client.close();
    await until('all are closed', () => heard.filter((what) => what.startsWith('close')).length === 3, 5_000);
    for (const { slug, said } of clients) {
      expect(new Set(said.map((text) => text.replace(/^\d+ /, '')))).toEqual(
        new Set([`${slug} ${slug}`, `news ${slug}`]),
      );
    }
    expect(heard.sort()).toEqual(
      [acme, beta, acme].flatMap(({ slug }) => [`close ${slug}`, `ping ${slug}`]).sort(),
    );
  });

  test('is cut when its tenant may no longer do what it could, and then refused', async () => {
    const { acme, world } = product;
    const port = await upgrading((_request, socket) => void socket.write(`HTTP/1.1 101 Hello\r\n\r\n`));
    const other = await insertTenant(world);
    const open = (slug: string) => {
      const client = connect(port, '127.0.0.1');
      product.atEnd(() => client.destroy());
      const one = { client, text: '', isOpen: true };
      client.on('data', (data: Buffer) => (one.text += data.toString()));
      client.on('close', () => (one.isOpen = false));
      client.write(asking('/', `X-Tenant: ${slug}`));
      return one;
    };
    const bystander = open(acme.slug);
    await until('a bystander is there', () => bystander.text.includes('101'), 5_000);
    for (const mode of ['read-only', 'blocked']) {
      const one = open(other.slug);
      await until('it is there', () => one.text.includes('101'), 5_000);
      await change(world, other.tenantId, { state: 'suspended', mode });
      await until(`it is cut when its tenant is ${mode}`, () => !one.isOpen, 2_000);
    }
    const late = open(other.slug);
    await until('it is refused', () => !late.isOpen, 5_000);
    expect(late.text).toContain('TENANT_SUSPENDED');
    expect(bystander.isOpen).toBe(true);
  });

  test('comes over a connection that was another tenant’s before', async () => {
    const { acme, beta } = product;
    const app = express();
    app.use(product.tenantry.tenancy({ resolve: [header('x-tenant')] }));
    app.use((_request, response) => void response.end(`[${here()}]`));
    const server = createServer(app);
    server.on(
      'upgrade',
      product.tenantry.upgrade({ resolve: [header('x-tenant')] }, (_request, socket) => {
        socket.write('HTTP/1.1 101 Hello\r\n\r\n');
        socket.on('data', () => socket.end(`[${here()}]`));
      }),
    );
    const client = connect(await product.listen(server), '127.0.0.1');
    product.atEnd(() => client.destroy());
    let text = '';
    client.on('data', (data: Buffer) => (text += data.toString()));
    client.write(`GET / HTTP/1.1\r\nHost: h\r\nX-Tenant: ${acme.slug}\r\n\r\n`);
    await until('the first is answered', () => text.includes(`[${acme.slug}]`), 5_000);
    client.write(asking('/', `X-Tenant: ${beta.slug}`));
    await until('it is upgraded', () => text.includes('101 Hello'), 5_000);
    client.write('who is it?');
    await until('it says whose it is', () => text.includes(`[${beta.slug}]`), 5_000);
  });
});

describe('an upgrade', () => {
  test('is refused as a request is, before the connection is taken', async () => {
    const { acme, beta } = product;
    const taken: string[] = [];
    const port = await upgrading(
      (...upgrade) => {
        taken.push(here());
        return greeting(...upgrade);
      },
      [subdomain('desk.example'), header('x-tenant'), path('/t/')],
    );
    const ask = async (target: string, ...lines: string[]): Promise<unknown> => {
      const [head = '', body = ''] = (await exchange(port, asking(target, ...lines))).split('\r\n\r\n');
      if (!body.startsWith('{')) return body;
      expect(head).toContain('application/problem+json');
      expect(head).toContain('Cache-Control: no-store');
      expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}`);
      const { code, status } = JSON.parse(body) as { code: string; status: number };
      expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} [A-Z]`));
      return code;
    };
    expect([
      await ask('/', `X-Tenant: ${acme.slug}`),
      await ask(`/t/${beta.slug}/live?x=/t/`),
      await ask(`/t/${beta.slug}`, `X-Tenant: ${acme.slug}`),
      await ask(`/t\\${beta.slug}`, `X-Tenant: ${acme.slug}`),
      await ask(`http://h/t/${beta.slug}`, `X-Tenant: ${acme.slug}`),
      await ask('/', 'X-Tenant: nobody'),
      await ask('/'),
    ]).toEqual([
      acme.slug,
      beta.slug,
      'TENANT_AMBIGUOUS',
      'TENANT_AMBIGUOUS',
      'TENANT_AMBIGUOUS',
      'TENANT_NOT_FOUND',
      'TENANT_NOT_FOUND',
    ]);
    expect(taken).toEqual([acme.slug, beta.slug]);
  });

  test('has its prefix stripped, and its claim from where the product has put it', async () => {
    const { acme } = product;
    const seen: unknown[] = [];
    const take: TakeUpgrade = (request, socket, head) => {
      seen.push(request.url);
      return greeting(request, socket, head);
    };
    const put = (request: IncomingMessage & { auth?: unknown }): void => {
      request.auth = { tenant: acme.slug };
    };
    const port = await upgrading(take, [path('/t/'), claim('tenant')], put);
    expect(await exchange(port, asking(`/t/${acme.slug}/live?x=1`))).toContain(acme.slug);
    expect(await exchange(port, asking('/live'))).toContain(acme.slug);
    expect(seen).toEqual(['/live?x=1', '/live']);
  });

  test.each([
    [
      'whoever takes it throws',
      () => {
        throw new Error('a fault');
      },
      '',
    ],
    ['whoever takes it fails later', () => Promise.reject(new Error('a fault')), ''],
  ] as const)('ends when %s, and the process does not', async (_, take, said) => {
    const port = await upgrading(take);
    expect(await exchange(port, asking('/', `X-Tenant: ${product.acme.slug}`))).toBe(said);
  });

  test('that a resolver fails on is answered, and tells nothing of why', async () => {
    const port = await upgrading(greeting, [
      {
        source: 'own',
        find() {
          throw new Error('a secret');
        },
      },
    ]);
    const text = await exchange(port, asking('/'));
    expect(text).toMatch(/^HTTP\/1.1 500 .*"code":"INTERNAL"/s);
    expect(text).not.toContain('secret');
  });

  test('whose client is gone while the tenant is looked up goes to nobody, and ends nothing', async () => {
    let taken = 0;
    const found: (() => void)[] = [];
    const parts = {
      directory: {
        onChange: () => undefined,
        peek: () => undefined,
        find: () => new Promise((_, failed) => found.push(() => failed(new Error('late')))),
      },
      admit: () => ({ tenantId: 'x' }),
      log: createLogger({ level: 'silent' }),
    } as unknown as Parameters<typeof createUpgrade>[0];
    const onUpgrade = createUpgrade(
      parts,
      { resolve: [{ source: 'own', find: () => 'slug:x' }] },
      () => void taken++,
    );
    const server = createServer();
    let socket: Duplex | undefined;
    server.on('upgrade', (request: IncomingMessage, its: Duplex, head: Buffer) => {
      socket = its;
      onUpgrade(request, its, head);
    });
    const client = connect(await product.listen(server), '127.0.0.1');
    client.write(asking('/'));
    await until('it is asked for', () => found.length === 1, 5_000);
    // As a cut connection does, which is an error.
    client.resetAndDestroy();
    socket?.resume();
    await until('it is gone', () => socket?.destroyed === true, 5_000);
    for (const fail of found) fail();
    await new Promise((done) => setImmediate(done));
    expect(taken).toBe(0);
  });
});

test('Server-Sent Events are sent as the tenant that asked, until it goes', async () => {
  const { acme, beta } = product;
  const shared = new EventEmitter();
  const gone: string[] = [];
  const app = express();
  app.use(product.tenantry.tenancy({ resolve: [header('x-tenant')] }));
  app.get('/events', (request, response) => {
    response.type('text/event-stream').flushHeaders();
    const tell = bindTenant((what: string) => void response.write(`data: ${what} ${here()}\n\n`));
    shared.on('news', tell);
    request.on('close', () => {
      shared.off('news', tell);
      gone.push(here());
    });
  });
  const port = await product.listen(createServer(app));
  const clients = [acme, beta].map(({ slug }) => {
    const client = connect(port, '127.0.0.1');
    product.atEnd(() => client.destroy());
    const one = { client, slug, text: '' };
    client.on('data', (data: Buffer) => (one.text += data.toString()));
    client.write(`GET /events HTTP/1.1\r\nHost: h\r\nX-Tenant: ${slug}\r\n\r\n`);
    return one;
  });
  await until('both listen', () => shared.listenerCount('news') === 2, 5_000);
  for (const what of ['one', 'two']) shared.emit('news', what);
  await until('both have heard', () => clients.every(({ text }) => text.includes('data: two')), 5_000);
  for (const { text, slug } of clients)
    expect(text.match(/data: .*/g)).toEqual([`data: one ${slug}`, `data: two ${slug}`]);
  for (const { client } of clients) client.destroy();
  await until('nobody listens any more', () => shared.listenerCount('news') === 0, 5_000);
  expect(gone.sort()).toEqual([acme.slug, beta.slug].sort());
});
