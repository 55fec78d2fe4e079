import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { tenantBody } from './support/bodies.js';
import { countRows } from './support/rows.js';

describe('POST /v1/tenants', () => {
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

  test('answers 202 with the operation and its address before the tenant is made', async () => {
    const asked = tenantBody();
    const reply = await api.send('/v1/tenants', { body: asked });
    expect(reply.status).toBe(202);
    expect(reply.headers.get('location')).toBe(`/v1/operations/${reply.id}`);
    expect(reply.json).toMatchObject({ kind: 'provision', attempt: 1 });
    const tenant = await api.send(`/v1/tenants/${reply.tenantId}`);
    expect(tenant.json).toMatchObject({
      slug: asked.slug,
      name: 'Acme Support',
      plan: 'team',
      cell: world.cell,
    });
  });

  test('waits for the end with Prefer: wait=N and answers 201 with the address of the tenant', async () => {
    const reply = await api.send('/v1/tenants', {
      body: tenantBody(),
      headers: { prefer: 'respond-async, wait=30' },
    });
    expect(reply.status).toBe(201);
    expect(reply.headers.get('preference-applied')).toBe('wait=30');
    expect(reply.headers.get('location')).toBe(`/v1/tenants/${reply.tenantId}`);
    expect(reply.headers.get('content-location')).toBe(`/v1/operations/${reply.id}`);
    expect(reply.json).toMatchObject({ status: 'succeeded', error: null, residue: [] });
    const tenant = await api.send(`/v1/tenants/${reply.tenantId}`);
    expect(tenant.json['state']).toBe('active');
    const ledger = await api.send(`/v1/tenants/${reply.tenantId}/allocations`);
    const items = ledger.json['items'] as { state: string; store: string }[];
    expect(new Set(items.map((item) => item.store))).toEqual(new Set(['postgres', 'mongo', 'redis']));
    expect(items.every((item) => item.state === 'verified')).toBe(true);
  });

  test('refuses a slug that exists with 409 and the field, and makes nothing', async () => {
    const asked = tenantBody();
    await api.send('/v1/tenants', { body: asked, headers: { prefer: 'wait=30' } });
    const before = await countRows(world);
    const reply = await api.send('/v1/tenants', { body: tenantBody({ slug: asked.slug }) });
    expect(reply.status).toBe(409);
    expect(reply.json).toMatchObject({ code: 'SLUG_TAKEN', errors: [{ field: 'slug' }] });
    expect(await countRows(world)).toEqual(before);
  });

  test('gives one tenant to a slug that many ask for at once', async () => {
    const { slug } = tenantBody();
    const replies = await Promise.all(
      Array.from({ length: 8 }, () => api.send('/v1/tenants', { body: tenantBody({ slug }) })),
    );
    expect(replies.map((reply) => reply.status).sort((a, b) => a - b)).toEqual([
      202,
      ...Array<number>(7).fill(409),
    ]);
    expect(
      replies.filter((reply) => reply.status === 409).every((reply) => reply.json['code'] === 'SLUG_TAKEN'),
    ).toBe(true);
    const listed = await api.send(`/v1/tenants?slug=${slug}`);
    expect(listed.json['items']).toHaveLength(1);
  });

  test('refuses a cell that does not exist with 400 and the field, and makes nothing', async () => {
    const before = await countRows(world);
    const reply = await api.send('/v1/tenants', { body: tenantBody({ cell: 'nowhere' }) });
    expect(reply.status).toBe(400);
    expect(reply.json).toMatchObject({ code: 'UNKNOWN_CELL', errors: [{ field: 'cell' }] });
    expect(await countRows(world)).toEqual(before);
  });
});
