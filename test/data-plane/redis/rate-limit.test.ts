/** So many in each window, for each tenant, whoever counts. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { tenancyProblems } from '../../../tenancy/express/problem.js';
import {
  createRateLimiter,
  type RateLimiter,
  type RateLimitOptions,
} from '../../../tenancy/redis/rate-limit.js';
import { until } from '../../support/until.js';
import { type Bench, openBench, scopedOf, type TestTenant } from './support.js';

const LIMIT = { name: 'calls', limit: 5, windowMs: 60_000 };

describe('the rate limiter', () => {
  let bench: Bench;
  beforeAll(() => {
    bench = openBench();
  });
  afterAll(() => bench.close());
  /** As in a process of its own. */
  const limiterOf = (tenant: TestTenant, options: Partial<RateLimitOptions> = {}): RateLimiter => {
    const redis = scopedOf(bench.source(), tenant);
    return createRateLimiter({ ...LIMIT, redis: () => redis, ...options });
  };

  it('allows as many as the limit, says how many are left, and begins anew when the window ends', async () => {
    const limiter = limiterOf(await bench.tenant(), { limit: 2, windowMs: 1_500 });
    const results = [await limiter.consume('a'), await limiter.consume('a'), await limiter.consume('a')];
    expect(results.map(({ allowed, remaining }) => [allowed, remaining])).toEqual([
      [true, 1],
      [true, 0],
      [false, 0],
    ]);
    for (const { resetMs } of results) {
      expect(resetMs).toBeGreaterThan(0);
      expect(resetMs).toBeLessThanOrEqual(1_500);
    }
    // What is refused in between does not put the end off.
    await until('a new window has begun', async () => (await limiter.consume('a')).allowed, 10_000);
  });

  it('exactly the limit is allowed to 400 callers in two processes', async () => {
    const tenant = await bench.tenant();
    const limiters = [limiterOf(tenant, { limit: 100 }), limiterOf(tenant, { limit: 100 })];
    const results = await Promise.all(
      limiters.flatMap((limiter) => Array.from({ length: 200 }, () => limiter.consume('a'))),
    );
    const allowed = results.filter((result) => result.allowed);
    expect(allowed).toHaveLength(100);
    expect(allowed.map(({ remaining }) => remaining).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, i) => i),
    );
  });

  it('two tenants with the same key have limits of their own, and so have two keys and two names', async () => {
    const [one, two] = await bench.tenants(2);
    if (one === undefined || two === undefined) throw new Error('no tenants');
    const tight = { limit: 1 };
    const [first, second] = [limiterOf(one, tight), limiterOf(two, tight)];
    expect((await first.consume('a')).allowed).toBe(true);
    expect((await first.consume('a')).allowed).toBe(false);
    expect((await second.consume('a')).allowed).toBe(true);
    expect((await first.consume('b')).allowed).toBe(true);
    expect((await limiterOf(one, { ...tight, name: 'calls:a' }).consume('')).allowed).toBe(true);
    expect((await limiterOf(one, { ...tight, name: 'calls' }).consume('a:')).allowed).toBe(true);
    await first.reset('a');
    expect((await first.consume('a')).allowed).toBe(true);
    expect((await second.consume('a')).allowed).toBe(false);
  });

  it('a counter never is without an end: not while connections are cut, nor where somebody left one', async () => {
    const tenant = await bench.tenant();
    const limiter = limiterOf(tenant, { limit: 100_000 });
    const stop = new AbortController();
    const wrong: unknown[] = [];
    let counted = 0;
    const work = Array.from({ length: 8 }, async (_, caller) => {
      for (let i = 0; !stop.signal.aborted; i++)
        await limiter.consume(`${caller} ${i}`).then(
          () => counted++,
          (error: { code?: string }) => {
            if (error.code !== 'STORE_UNAVAILABLE') wrong.push(error);
          },
        );
    });
    for (let cut = 0; cut < 20; cut++) {
      const before = counted;
      await until('it counts', () => counted > before);
      await bench.admin.client('KILL', 'USER', tenant.user);
    }
    stop.abort();
    await Promise.all(work);
    expect(wrong).toEqual([]);
    const keys = await bench.admin.keys(`${tenant.prefix}rate:*`);
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys) expect(await bench.admin.pttl(key)).toBeGreaterThan(0);

    const left = `${tenant.prefix}rate:5:calls:left`;
    await bench.admin.set(left, 3);
    expect(await limiter.consume('left')).toEqual({ allowed: true, remaining: 99_996, resetMs: 60_000 });
    const end = await bench.admin.pttl(left);
    expect(end).toBeGreaterThan(0);
    expect(end).toBeLessThanOrEqual(60_000);
  });

  it('a cost counts as many, and a window longer than the namespace allows is refused', async () => {
    const tenant = await bench.tenant();
    const limiter = limiterOf(tenant);
    expect(await limiter.consume('a', 4)).toMatchObject({ allowed: true, remaining: 1 });
    expect(await limiter.consume('a', 2)).toMatchObject({ allowed: false, remaining: 0 });
    await expect(
      limiterOf(tenant, { namespace: 'drafts', windowMs: 100_001 }).consume('a'),
    ).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
    const within = await limiterOf(tenant, { namespace: 'drafts', windowMs: 50_000 }).consume('a');
    expect(Math.ceil(within.resetMs / 10_000)).toBe(5);
    await expect(limiter.consume('a', -1)).rejects.toThrow(RangeError);
    for (const key of [['a'], {}, undefined])
      await expect(limiter.consume(key as string)).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
    expect(() => limiterOf(tenant, { limit: 0 })).toThrow(RangeError);
  });

  describe('as middleware', () => {
    const servers: Server[] = [];
    afterAll(async () => {
      for (const server of servers) await new Promise((done) => server.close(done));
    });
    const serve = async (limiter: RateLimiter): Promise<string> => {
      const app = express();
      app.use(limiter.middleware({ keyOf: (request) => request.get('x-user') ?? '' }));
      app.get('/', (_request, response) => void response.json({ ok: true }));
      app.use(tenancyProblems());
      const server = createServer(app).listen(0, '127.0.0.1');
      servers.push(server);
      await once(server, 'listening');
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    };
    const ask = (url: string, user: string): Promise<Response> =>
      fetch(url, { headers: { 'x-user': user, connection: 'close' } });

    it('answers 429 with when to come back, to whom has used it up and to nobody else', async () => {
      const url = await serve(limiterOf(await bench.tenant(), { limit: 1 }));
      const first = await ask(url, 'ann');
      expect([first.status, first.headers.get('ratelimit-remaining')]).toEqual([200, '0']);
      const second = await ask(url, 'ann');
      expect(second.status).toBe(429);
      expect(await second.json()).toMatchObject({ code: 'QUOTA_EXCEEDED' });
      expect(second.headers.get('ratelimit-limit')).toBe('1');
      expect(Number(second.headers.get('retry-after'))).toBeGreaterThan(0);
      expect((await ask(url, 'ben')).status).toBe(200);
    });

    it('lets a tenant that may only read go on reading', async () => {
      const { tenantId } = await bench.tenant();
      const redis = bench.source().forTenant({ tenantId, mode: 'read-only' });
      const url = await serve(createRateLimiter({ ...LIMIT, limit: 1, redis: () => redis }));
      for (let i = 0; i < 3; i++) expect((await ask(url, 'ann')).status).toBe(200);
    });
  });
});
