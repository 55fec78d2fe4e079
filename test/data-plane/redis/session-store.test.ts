/** express-session on the tenant's own Redis: a real application, asked over HTTP. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import session, { type SessionOptions } from 'express-session';
import { enterTenant, type Tenant } from '../../../tenancy/context/tenant-context.js';
import { tenancyProblems } from '../../../tenancy/express/problem.js';
import type { ScopedRedisSource } from '../../../tenancy/redis/scoped.js';
import { createSessionStore, type SessionStoreOptions } from '../../../tenancy/redis/session-store.js';
import { type Bench, openBench, type TestTenant } from './support.js';

declare module 'express-session' {
  interface SessionData {
    visits: number;
  }
}

describe('the session store', () => {
  let bench: Bench;
  let source: ScopedRedisSource;
  let one: TestTenant;
  let two: TestTenant;
  const servers: Server[] = [];
  beforeAll(() => {
    bench = openBench();
  });
  beforeEach(async () => {
    source = bench.source();
    const [a, b] = await bench.tenants(2);
    if (a === undefined || b === undefined) throw new Error('no tenants');
    [one, two] = [a, b];
  });
  afterAll(async () => {
    for (const server of servers) await new Promise((done) => server.close(done));
    await bench.close();
  });

  /** A process of the product: it enters the tenant that a header names, as `tenancy()` does. */
  async function serve(options: Partial<SessionOptions> = {}, storeOptions: SessionStoreOptions = {}) {
    const app = express();
    app.use((request, _response, next) => {
      const tenant = [one, two].find(({ user }) => user === request.get('x-tenant'));
      if (tenant === undefined) return next();
      const mode = request.get('x-mode') === 'read-only' ? 'read-only' : 'open';
      const { tenantId } = tenant;
      // The part of a tenant that a session store looks at.
      const entered = { tenantId, mode, redis: source.forTenant({ tenantId, mode }) } as unknown as Tenant;
      enterTenant(entered, next);
    });
    app.use(
      session({
        store: createSessionStore(session.Store, storeOptions),
        secret: 'a secret of the tests',
        resave: false,
        saveUninitialized: false,
        ...options,
      }),
    );
    app.post('/visits', (request, response) => {
      request.session.visits = (request.session.visits ?? 0) + 1;
      response.json({ visits: request.session.visits, id: request.sessionID });
    });
    app.get('/visits', (request, response) => void response.json({ visits: request.session.visits ?? 0 }));
    app.post('/leave', (request, response, next) => {
      request.session.destroy((error) => (error ? next(error) : response.json({})));
    });
    app.use(tenancyProblems());
    const server = createServer(app).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return async (
      method: string,
      path: string,
      tenant: TestTenant | undefined,
      cookie = '',
      mode = 'open',
    ) => {
      const response = await fetch(base + path, {
        method,
        headers: { 'x-tenant': tenant?.user ?? '', 'x-mode': mode, cookie, connection: 'close' },
      });
      return {
        status: response.status,
        body: (await response.json()) as { visits?: number; id?: string; code?: string },
        cookie: response.headers.get('set-cookie')?.split(';')[0] ?? '',
      };
    };
  }
  const keyOf = ({ prefix }: TestTenant, id: string | undefined): string => `${prefix}session:${id ?? ''}`;

  it('a session goes on from request to request, in another process too, and ends when it is destroyed', async () => {
    const [ask, elsewhere] = [await serve(), await serve()];
    const first = await ask('POST', '/visits', one);
    expect(first).toMatchObject({ status: 200, body: { visits: 1 } });
    expect(await elsewhere('POST', '/visits', one, first.cookie)).toMatchObject({ body: { visits: 2 } });
    expect(await ask('GET', '/visits', one, first.cookie)).toMatchObject({ body: { visits: 2 } });
    expect(await bench.admin.exists(keyOf(one, first.body.id))).toBe(1);
    await elsewhere('POST', '/leave', one, first.cookie);
    expect(await bench.admin.exists(keyOf(one, first.body.id))).toBe(0);
    expect(await ask('GET', '/visits', one, first.cookie)).toMatchObject({ body: { visits: 0 } });
  });

  it('the same session id in two tenants is two sessions', async () => {
    const ask = await serve({ genid: () => 'the-same-id' });
    const { cookie } = await ask('POST', '/visits', one);
    await ask('POST', '/visits', one, cookie);
    // Signed by the same product, so the cookie is good there; the session is not.
    expect(await ask('GET', '/visits', two, cookie)).toMatchObject({ body: { visits: 0 } });
    expect(await ask('POST', '/visits', two, cookie)).toMatchObject({ body: { visits: 1 } });
    await ask('POST', '/leave', two, cookie);
    expect(await ask('GET', '/visits', one, cookie)).toMatchObject({ body: { visits: 2 } });
    expect(await bench.admin.exists(keyOf(two, 'the-same-id'))).toBe(0);
  });

  it('requests of both at once never meet', async () => {
    const ask = await serve({ genid: () => 'the-same-id', resave: true });
    const cookies = await Promise.all([one, two].map((tenant) => ask('POST', '/visits', tenant)));
    for (let round = 2; round <= 20; round++) {
      const [ofOne] = await Promise.all([
        ask('POST', '/visits', one, cookies[0]?.cookie),
        ask('GET', '/visits', two, cookies[1]?.cookie),
      ]);
      expect(ofOne.body.visits).toBe(round);
    }
    expect(await ask('GET', '/visits', two, cookies[1]?.cookie)).toMatchObject({ body: { visits: 1 } });
  });

  it('lives as long as its cookie, or as the store says, and use puts the end off', async () => {
    const [minute, hour] = [
      await serve({ cookie: { maxAge: 60_000 } }),
      await serve({}, { ttlSeconds: 3_600 }),
    ];
    const [short, long] = [await minute('POST', '/visits', one), await hour('POST', '/visits', one)];
    const [shortKey, longKey] = [keyOf(one, short.body.id), keyOf(one, long.body.id)];
    expect(Math.ceil((await bench.admin.pttl(shortKey)) / 60_000)).toBe(1);
    expect(Math.ceil((await bench.admin.pttl(longKey)) / 60_000)).toBe(60);
    await bench.admin.pexpire(longKey, 30_000);
    await hour('GET', '/visits', one, long.cookie);
    expect(Math.ceil((await bench.admin.pttl(longKey)) / 60_000)).toBe(60);
    for (const ttlSeconds of [Number.NaN, 0, -1, Number.POSITIVE_INFINITY, '3600' as unknown as number])
      expect(() => createSessionStore(session.Store, { ttlSeconds })).toThrow(RangeError);
  });

  it('a tenant that may only read keeps its sessions and reads on; writing them is refused', async () => {
    const ask = await serve();
    const { cookie } = await ask('POST', '/visits', one);
    expect(await ask('GET', '/visits', one, cookie, 'read-only')).toMatchObject({
      status: 200,
      body: { visits: 1 },
    });
    const store = createSessionStore(session.Store, {
      redis: () => source.forTenant({ tenantId: one.tenantId, mode: 'read-only' }),
    });
    const data = { cookie: { originalMaxAge: null }, visits: 9 };
    const error = await new Promise((done) => store.set('id', data, done));
    expect(error).toMatchObject({ code: 'TENANT_SUSPENDED' });
    // Each answer ends with it.
    expect(
      await new Promise((done) => store.touch?.('id', data, (...said: unknown[]) => done(said[0]))),
    ).toBeNull();
    expect(await ask('GET', '/visits', one, cookie)).toMatchObject({ body: { visits: 1 } });
  });

  it('with no tenant there is no session: an error, and nothing is written anywhere', async () => {
    const ask = await serve();
    const { cookie } = await ask('POST', '/visits', one);
    expect(await ask('GET', '/visits', undefined, cookie)).toMatchObject({
      status: 500,
      body: { code: 'NO_TENANT_CONTEXT' },
    });
  });
});
