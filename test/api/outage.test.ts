import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { until } from '../support/until.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';
import { type Api, type ApiOptions, startApi } from './support/api.js';
import { newSlug, tenantBody } from './support/bodies.js';
import { type Proxy, proxyBefore, proxyTo } from './support/proxy.js';
import { countRows, type Rows } from './support/rows.js';

let world: World;
/** Of each test's own, so that no run of another test is in it. */
let taskQueue: string;
/** Before the test. */
let rows: Rows;
const apis: Api[] = [];
const proxies: Proxy[] = [];
const workers: RunningWorker[] = [];
beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  taskQueue = `${world.taskQueue}-${randomUUID()}`;
  rows = await countRows(world);
});
afterEach(async () => {
  for (const api of apis.splice(0)) await api.close();
  for (const proxy of proxies.splice(0)) await proxy.close();
  for (const worker of workers.splice(0)) await worker.stop();
});
afterAll(() => world?.close());

async function api(options: ApiOptions = {}): Promise<Api> {
  const started = await startApi(world, { taskQueue, ...options });
  apis.push(started);
  return started;
}

async function startWorker(options: Parameters<World['startWorker']>[0] = {}): Promise<RunningWorker> {
  const started = await world.startWorker({ taskQueue, ...options });
  workers.push(started);
  return started;
}

const resultOf = (tenantId: string): Promise<unknown> =>
  world.temporal.workflow.getHandle(`tenant/${tenantId}`).result();

async function proxy(host: string, port: number): Promise<Proxy> {
  const started = await proxyTo(host, port);
  proxies.push(started);
  return started;
}

async function catalogueProxy(): Promise<{ proxy: Proxy; url: string }> {
  const started = await proxyBefore(world.url('control', 'catalogue'));
  proxies.push(started.proxy);
  return started;
}

async function temporalProxy(): Promise<{ proxy: Proxy; address: string }> {
  const [host = '127.0.0.1', port] = world.stack.temporalAddress.split(':');
  const between = await proxy(host, Number(port));
  return { proxy: between, address: `127.0.0.1:${between.port}` };
}

/** A port on which nothing listens. */
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const runs = async (): Promise<number> => {
  const { count } = await world.temporal.workflow.count(`TaskQueue = '${taskQueue}'`);
  return count;
};

describe('without Temporal', () => {
  test('a request is a 503 with Retry-After soon, and nothing of it is left', async () => {
    const { send } = await api({
      temporalAddress: `127.0.0.1:${await deadPort()}`,
      admissionTimeout: 10_000,
    });
    const began = performance.now();
    for (const headers of [{}, { 'idempotency-key': randomUUID() }]) {
      const reply = await send('/v1/tenants', { body: tenantBody(), headers });
      expect([reply.status, reply.json['code']]).toEqual([503, 'ENGINE_UNAVAILABLE']);
      expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    const batch = await send('/v1/tenants:batch', { body: { tenants: [tenantBody()] } });
    expect(batch.json['code']).toBe('ENGINE_UNAVAILABLE');
    expect(performance.now() - began).toBeLessThan(15_000);
    expect(await countRows(world)).toEqual(rows);
  });

  test('what is in the catalogue can still be read, and readiness says what is missing', async () => {
    const { send } = await api({ temporalAddress: `127.0.0.1:${await deadPort()}` });
    expect((await send('/v1/tenants')).status).toBe(200);
    const ready = await send('/readyz');
    expect([ready.status, ready.json]).toMatchObject([
      503,
      { ready: false, catalogue: { ok: true }, temporal: { ok: false } },
    ]);
  });

  test('the same request succeeds as soon as Temporal is back', async () => {
    await startWorker();
    const { proxy: between, address } = await temporalProxy();
    const { send } = await api({ temporalAddress: address });
    const body = tenantBody();
    between.cut();
    expect((await send('/v1/tenants', { body })).status).toBe(503);
    between.restore();
    let reply = await send('/v1/tenants', { body });
    while (reply.status === 503) reply = await send('/v1/tenants', { body });
    expect(reply.status).toBe(202);
    expect(await resultOf(reply.tenantId)).toEqual({ status: 'succeeded' });
  });

  test('a Temporal that hangs is a 503 when the time for admission has passed', async () => {
    await startWorker();
    const { proxy: between, address } = await temporalProxy();
    const { send } = await api({ temporalAddress: address, admissionTimeout: 1_000 });
    expect((await send('/v1/tenants', { body: tenantBody(), headers: { prefer: 'wait=20' } })).status).toBe(
      201,
    );
    const before = await countRows(world);
    between.hang();
    const began = performance.now();
    const reply = await send('/v1/tenants', { body: tenantBody() });
    expect(reply.json['code']).toBe('ENGINE_UNAVAILABLE');
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await countRows(world)).toEqual(before);
  });
});

describe('without a worker', () => {
  test('a request is withdrawn: 503, nothing is left, and a worker that comes later makes nothing', async () => {
    const { send } = await api({ admissionTimeout: 500 });
    const [slug, key] = [newSlug(), randomUUID()];
    for (const headers of [{}, { 'idempotency-key': key }]) {
      const reply = await send('/v1/tenants', { body: tenantBody({ slug }), headers });
      expect([reply.status, reply.json['code']]).toEqual([503, 'ADMISSION_TIMEOUT']);
      expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(await countRows(world)).toEqual(rows);
    }
    await startWorker();
    // Each run ends once the worker has found out that it is withdrawn.
    for await (const run of world.temporal.workflow.list({
      query: `TaskQueue = '${taskQueue}'`,
    }))
      await world.temporal.workflow
        .getHandle(run.workflowId)
        .result()
        .catch(() => undefined);
    expect(await countRows(world)).toEqual(rows);
    const again = await send('/v1/tenants', {
      body: tenantBody({ slug }),
      headers: { prefer: 'wait=30', 'idempotency-key': key },
    });
    expect(again.status).toBe(201);
  });

  test('a batch is withdrawn too', async () => {
    const { send } = await api({ admissionTimeout: 500 });
    const reply = await send('/v1/tenants:batch', { body: { tenants: [tenantBody(), tenantBody()] } });
    expect([reply.status, reply.json['code']]).toEqual([503, 'ADMISSION_TIMEOUT']);
    expect(await countRows(world)).toEqual(rows);
  });
});

test('a request whose time passes in the middle of its admission is admitted or withdrawn, never both', async () => {
  for (const headers of [{}, { 'idempotency-key': randomUUID() }]) {
    const worker = await startWorker();
    const { send } = await api({ admissionTimeout: 500 });
    const owner = new pg.Client({ connectionString: world.url('control', 'owner') });
    await owner.connect();
    // What others do is no longer the owner's to see.
    const watcher = new pg.Client({ connectionString: world.url('control') });
    await watcher.connect();
    // Admission has read the request and waits to write the tenant.
    await owner.query('BEGIN; LOCK TABLE tenantry.tenant IN SHARE MODE');
    const body = tenantBody();
    const settled = new AbortController();
    const asked = send('/v1/tenants', { body, headers }).finally(() => settled.abort());
    const waiting = async (): Promise<number> =>
      (
        await watcher.query(
          "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
      ).rowCount ?? 0;
    await until(
      'the request is answered, or its taking back waits for the admission',
      async () => settled.signal.aborted || (await waiting()) >= 2,
    );
    await owner.query('COMMIT');
    await owner.end();
    await watcher.end();
    const reply = await asked;
    const listed = async () =>
      (await send(`/v1/tenants?slug=${body.slug}`)).json['items'] as { state: string }[];
    if (reply.status === 202) {
      await resultOf(reply.tenantId);
      expect(await listed()).toMatchObject([{ state: 'active' }]);
      if ('idempotency-key' in headers)
        expect((await send('/v1/tenants', { body, headers })).id).toBe(reply.id);
    } else {
      expect(reply.json['code']).toBe('ADMISSION_TIMEOUT');
      await worker.stop();
      expect(await listed()).toEqual([]);
    }
    await worker.stop();
  }
});

describe('without the catalogue', () => {
  test('everything that needs it is a 503 with Retry-After, and no run is started', async () => {
    const url = new URL(world.url('control', 'catalogue'));
    url.port = String(await deadPort());
    const { send } = await api({ catalogueUrl: url.href });
    for (const headers of [{}, { 'idempotency-key': randomUUID() }]) {
      const reply = await send('/v1/tenants', { body: tenantBody(), headers });
      expect([reply.status, reply.json['code']]).toEqual([503, 'CATALOGUE_UNAVAILABLE']);
      expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    const id = '6b1f5a52-7c0e-4d2f-9a43-1f2e3d4c5b6a';
    for (const path of [
      '/v1/tenants',
      `/v1/tenants/${id}`,
      `/v1/tenants/${id}/allocations`,
      `/v1/operations/${id}`,
    ])
      expect((await send(path)).json['code']).toBe('CATALOGUE_UNAVAILABLE');
    expect((await send(`/v1/operations/${id}:retry`, { method: 'POST' })).json['code']).toBe(
      'CATALOGUE_UNAVAILABLE',
    );
    expect(await runs()).toBe(0);
    expect((await send('/readyz')).json).toMatchObject({ ready: false, catalogue: { ok: false }, cells: [] });
    expect((await send('/livez')).status).toBe(200);
  });

  test('a request that is not valid is still told what is wrong with it', async () => {
    const url = new URL(world.url('control', 'catalogue'));
    url.port = String(await deadPort());
    const { send } = await api({ catalogueUrl: url.href });
    expect((await send('/v1/tenants', { body: tenantBody({ plan: 'gold' }) })).json['code']).toBe(
      'UNKNOWN_PLAN',
    );
  });

  test('it is used again as soon as it is back, though its connections broke', async () => {
    await startWorker();
    const { proxy: between, url } = await catalogueProxy();
    const { send } = await api({ catalogueUrl: url });
    expect((await send('/v1/tenants')).status).toBe(200);
    between.cut();
    expect((await send('/v1/tenants')).status).toBe(503);
    between.restore();
    expect((await send('/v1/tenants')).status).toBe(200);
    const reply = await send('/v1/tenants', { body: tenantBody() });
    expect(reply.status).toBe(202);
    expect(await resultOf(reply.tenantId)).toEqual({ status: 'succeeded' });
  });

  test('an operation that was admitted while it went away is a 202 all the same, and completes', async () => {
    const { proxy: between, url } = await catalogueProxy();
    // The API loses the catalogue, which the worker still reaches, in the moment of the admission.
    await startWorker({
      activities: {
        ...world.activities,
        admitProvision: async (asked) => {
          between.cut();
          return world.activities.admitProvision(asked);
        },
      },
    });
    const { send } = await api({ catalogueUrl: url });
    const reply = await send('/v1/tenants', { body: tenantBody() });
    expect([reply.status, reply.json['status'], reply.json['steps']]).toEqual([202, 'running', []]);
    await resultOf(reply.tenantId);
    between.restore();
    expect((await send(reply.headers.get('location') ?? '')).json['status']).toBe('succeeded');
  });

  test('no answer tells what is behind it', async () => {
    const url = new URL(world.url('control', 'catalogue'));
    url.port = String(await deadPort());
    const { send } = await api({ catalogueUrl: url.href });
    const reply = await send('/v1/tenants');
    expect(Object.keys(reply.json).sort()).toEqual(['code', 'detail', 'instance', 'status', 'title', 'type']);
    expect(reply.text).not.toMatch(/ECONN|127\.0\.0\.1|postgres|SELECT|\.ts|\.js|password|:\d{4,5}(?!\w)/i);
  });
});

test('an error that nobody foresaw is a 500 that tells nothing, with its cause in the log', async () => {
  const { send, logged } = await api();
  const client = new pg.Client({ connectionString: world.url('control', 'owner') });
  await client.connect();
  await client.query('ALTER TABLE tenantry.tenant RENAME TO elsewhere');
  const reply = await send('/v1/tenants');
  await client.query('ALTER TABLE tenantry.elsewhere RENAME TO tenant');
  await client.end();
  expect([reply.status, reply.json['code'], reply.json['detail']]).toEqual([
    500,
    'INTERNAL',
    'Something unexpected happened.',
  ]);
  expect(reply.text).not.toMatch(/relation|tenant"|SELECT/i);
  const id = String(reply.json['instance']).replace('urn:uuid:', '');
  const line = logged.find((one) => one['msg'] === 'INTERNAL');
  expect(JSON.stringify(line)).toContain('relation');
  expect(JSON.stringify(line)).toContain(id);
});
