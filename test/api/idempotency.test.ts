import { randomUUID } from 'node:crypto';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { tenantBody } from './support/bodies.js';
import { countRows } from './support/rows.js';

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

const withKey = (key: string, more: Record<string, string> = {}) => ({ 'idempotency-key': key, ...more });

test('the same key and body get the same operation again, before and after it has ended', async () => {
  const [key, body] = [randomUUID(), tenantBody()];
  const first = await api.send('/v1/tenants', { body, headers: withKey(key) });
  const second = await api.send('/v1/tenants', { body, headers: withKey(key) });
  const third = await api.send('/v1/tenants', { body, headers: withKey(key, { prefer: 'wait=30' }) });
  const fourth = await api.send('/v1/tenants', { body, headers: withKey(key) });
  expect([first, second, third, fourth].map((reply) => reply.status)).toEqual([202, 202, 201, 202]);
  expect(new Set([first, second, third, fourth].map((reply) => reply.id)).size).toBe(1);
  expect((await api.send(`/v1/tenants?slug=${body.slug}`)).json['items']).toHaveLength(1);
});

test('the order of the fields in the body does not matter', async () => {
  const key = randomUUID();
  const { slug, name, plan } = tenantBody();
  const first = await api.send('/v1/tenants', { body: { slug, name, plan }, headers: withKey(key) });
  const second = await api.send('/v1/tenants', { body: { plan, name, slug }, headers: withKey(key) });
  expect(second.id).toBe(first.id);
});

test('the same key with another body is refused with 422 and makes nothing', async () => {
  const key = randomUUID();
  await api.send('/v1/tenants', { body: tenantBody(), headers: withKey(key, { prefer: 'wait=30' }) });
  const before = await countRows(world);
  const reply = await api.send('/v1/tenants', { body: tenantBody(), headers: withKey(key) });
  expect([reply.status, reply.json['code']]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
  expect(reply.json['errors']).toMatchObject([{ field: 'Idempotency-Key' }]);
  expect(await countRows(world)).toEqual(before);
});

test('the same key at once makes one tenant and gives one answer', async () => {
  const [key, body] = [randomUUID(), tenantBody()];
  const replies = await Promise.all(
    Array.from({ length: 10 }, () => api.send('/v1/tenants', { body, headers: withKey(key) })),
  );
  expect(replies.map((reply) => reply.status)).toEqual(Array<number>(10).fill(202));
  expect(new Set(replies.map((reply) => reply.id)).size).toBe(1);
  expect((await api.send(`/v1/tenants?slug=${body.slug}`)).json['items']).toHaveLength(1);
});

test('a refusal is remembered as the first answer too', async () => {
  const [key, body] = [randomUUID(), tenantBody()];
  await api.send('/v1/tenants', { body, headers: { prefer: 'wait=30' } });
  const refusals = [
    await api.send('/v1/tenants', { body, headers: withKey(key) }),
    await api.send('/v1/tenants', { body, headers: withKey(key) }),
  ];
  for (const reply of refusals)
    expect([reply.status, reply.json['code'], reply.json['errors']]).toMatchObject([
      409,
      'SLUG_TAKEN',
      [{ field: 'slug' }],
    ]);
});

test('a request that was not valid leaves its key free', async () => {
  const [key, body] = [randomUUID(), tenantBody()];
  expect(
    (await api.send('/v1/tenants', { body: { ...body, plan: 'gold' }, headers: withKey(key) })).status,
  ).toBe(400);
  expect((await api.send('/v1/tenants', { body, headers: withKey(key) })).status).toBe(202);
});

test('without a key two equal requests are two requests', async () => {
  const body = tenantBody();
  const first = await api.send('/v1/tenants', { body });
  const second = await api.send('/v1/tenants', { body });
  expect([first.status, second.status]).toEqual([202, 409]);
});

test('the key is nowhere in the catalogue as it was sent', async () => {
  const key = `order-${randomUUID()}`;
  await api.send('/v1/tenants', { body: tenantBody(), headers: withKey(key) });
  const { rows } = await world.catalogue.pool.query('SELECT * FROM request');
  expect(JSON.stringify(rows)).not.toContain(key);
});

test('a refusal that will pass by itself is not held against the key', async () => {
  const early = await createWorld({ prepare: false });
  const other = await startApi(early);
  try {
    await early.startWorker();
    const [headers, body] = [withKey(randomUUID()), tenantBody()];
    const first = await other.send('/v1/tenants', { body, headers });
    expect([first.status, first.json['code']]).toEqual([503, 'CELL_NOT_READY']);
    expect(Number(first.headers.get('retry-after'))).toBeGreaterThan(0);
    await early.dependencies.cells.get(early.cell);
    expect((await other.send('/v1/tenants', { body, headers })).status).toBe(202);
  } finally {
    await other.close();
    await early.close();
  }
});
