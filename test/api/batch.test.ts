import { randomUUID } from 'node:crypto';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { newSlug, tenantBody } from './support/bodies.js';
import { countRows } from './support/rows.js';

interface Result {
  readonly ordinal: number;
  readonly slug: string;
  readonly tenantId: string | null;
  readonly status: string;
  readonly error: { readonly code: string } | null;
}

let world: World;
let api: Api;
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker();
  api = await startApi(world);
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

const results = (json: Record<string, unknown>): Result[] => json['results'] as Result[];

test('a batch is one operation with a result for each tenant, in the order of the request', async () => {
  const tenants = Array.from({ length: 25 }, () => tenantBody());
  const reply = await api.send('/v1/tenants:batch', { body: { tenants }, headers: { prefer: 'wait=50' } });
  expect(reply.status).toBe(200);
  expect(reply.headers.get('content-location')).toBe(`/v1/operations/${reply.id}`);
  expect(reply.json).toMatchObject({ kind: 'provision-batch', status: 'succeeded', tenantId: null });
  expect(results(reply.json).map((result) => result.slug)).toEqual(tenants.map((tenant) => tenant.slug));
  for (const { status, tenantId } of results(reply.json)) {
    expect(status).toBe('succeeded');
    expect((await api.send(`/v1/tenants/${tenantId}`)).json['state']).toBe('active');
  }
});

test('without a wait it answers 202 with its address at once', async () => {
  const tenants = [tenantBody(), tenantBody()];
  const reply = await api.send('/v1/tenants:batch', { body: { tenants } });
  expect([reply.status, reply.headers.get('location')]).toEqual([202, `/v1/operations/${reply.id}`]);
  expect(results(reply.json)).toHaveLength(2);
  await world.temporal.workflow.getHandle(`tenant-batch/${reply.id}`).result();
  expect((await api.send(`/v1/operations/${reply.id}`)).json['status']).toBe('succeeded');
});

test('a slug that is taken, before or in the batch itself, refuses only its own tenant', async () => {
  const [taken, twice] = [newSlug(), newSlug()];
  await api.send('/v1/tenants', { body: tenantBody({ slug: taken }), headers: { prefer: 'wait=30' } });
  const slugs = [taken, newSlug(), twice, twice, newSlug()];
  const reply = await api.send('/v1/tenants:batch', {
    body: { tenants: slugs.map((slug) => tenantBody({ slug })) },
    headers: { prefer: 'wait=50' },
  });
  expect(results(reply.json).map(({ status, error }) => error?.code ?? status)).toEqual([
    'SLUG_TAKEN',
    'succeeded',
    'succeeded',
    'SLUG_TAKEN',
    'succeeded',
  ]);
});

test('a cell that does not exist refuses the whole batch with the field, and nothing is made', async () => {
  const tenants = [tenantBody(), tenantBody({ cell: 'nowhere' })];
  const before = await countRows(world);
  const reply = await api.send('/v1/tenants:batch', { body: { tenants } });
  expect([reply.status, reply.json['code']]).toEqual([400, 'UNKNOWN_CELL']);
  expect(reply.json['errors']).toMatchObject([{ field: 'tenants[1].cell' }]);
  expect(await countRows(world)).toEqual(before);
});

test('the same key and body get the same batch, at once and later', async () => {
  const headers = { 'idempotency-key': randomUUID(), prefer: 'wait=50' };
  const tenants = Array.from({ length: 5 }, () => tenantBody());
  const ask = () => api.send('/v1/tenants:batch', { body: { tenants }, headers });
  const replies = [...(await Promise.all([ask(), ask(), ask()])), await ask()];
  expect(replies.map((reply) => reply.status)).toEqual([200, 200, 200, 200]);
  expect(new Set(replies.map((reply) => reply.id)).size).toBe(1);
  const { rows } = await world.catalogue.pool.query('SELECT FROM tenant WHERE slug = ANY ($1)', [
    tenants.map(({ slug }) => slug),
  ]);
  expect(rows).toHaveLength(5);
  // The same key is not a key for one tenant as well.
  const other = await api.send('/v1/tenants', { body: tenants[0], headers });
  expect(other.json['code']).toBe('IDEMPOTENCY_KEY_REUSED');
});

test('the largest batch, with the longest names, is within the limit of a body and is admitted', async () => {
  const taskQueue = `${world.taskQueue}-catalogue`;
  await world.startWorker({ taskQueue, catalogueOnly: true });
  const { send, close } = await startApi(world, { taskQueue });
  const tenants = Array.from({ length: 1_000 }, (_, i) => ({
    slug: `${String(i).padStart(4, '0')}${'x'.repeat(59)}`,
    name: '名'.repeat(200),
    plan: 'team',
    cell: world.cell,
  }));
  const reply = await send('/v1/tenants:batch', { body: { tenants } });
  expect([reply.status, reply.json['code']]).toEqual([202, undefined]);
  expect(results(reply.json)).toHaveLength(1_000);
  await world.temporal.workflow.getHandle(`tenant-batch/${reply.id}`).terminate();
  await close();
});

test('the longest batch that may be asked for is not too large, however its names are written', async () => {
  // Twelve bytes for each character, where JSON is written in ASCII.
  const name = '\\ud835\\udd38'.repeat(200);
  const tenant = (plan: string): string =>
    `{ "slug": "${newSlug().padEnd(63, 'x')}", "name": "${name}", "plan": "${plan}", "cell": "${world.cell.padEnd(31, 'x')}" }`;
  const plans = Array.from({ length: 1_000 }, (_, i) => (i < 999 ? 'team' : 'x'.repeat(31)));
  const before = await countRows(world);
  const reply = await api.send('/v1/tenants:batch', {
    raw: `{ "tenants": [${plans.map(tenant).join(', ')}] }`,
    headers: { 'content-type': 'application/json' },
  });
  // All of it was read and is valid, up to the last plan.
  expect([reply.status, reply.json['code']]).toEqual([400, 'UNKNOWN_PLAN']);
  expect(reply.json['errors']).toMatchObject([{ field: 'tenants[999].plan' }]);
  expect(await countRows(world)).toEqual(before);
});
