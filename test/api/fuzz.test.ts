import fc from 'fast-check';
import { anyText } from '../support/any-text.js';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';

/** The worker is there, because now and then a random body is a good one. */
let world: World;
let api: Api;
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker();
  api = await startApi(world, { bodyLimit: 100_000 });
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

const json = fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' });
const text = fc.oneof(anyText(), fc.string(), fc.constantFrom('acme', 'admin', '__proto__', '\u0000', ''));
const nearlyTenant = fc.record(
  {
    slug: fc.oneof(text, fc.stringMatching(/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/)),
    name: text,
    plan: fc.oneof(fc.constantFrom('team', 'free', 'gold', 'constructor'), text),
    cell: fc.oneof(text, json),
    [`x-${'y'.repeat(3)}`]: json,
  },
  { requiredKeys: [] },
);

test('no body makes the server fail', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('/v1/tenants', '/v1/tenants:batch'),
      fc.oneof(
        json,
        nearlyTenant,
        fc.record({ tenants: fc.array(fc.oneof(nearlyTenant, json), { maxLength: 3 }) }),
      ),
      async (path, body) => {
        const { status } = await api.send(path, { body });
        expect([202, 400, 409]).toContain(status);
      },
    ),
    { numRuns: 400 },
  );
});

test('no bytes make the server fail', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const { status } = await api.send('/v1/tenants', {
        raw: Buffer.from(bytes),
        headers: { 'content-type': 'application/json' },
      });
      expect(status).toBe(400);
    }),
    { numRuns: 200 },
  );
});

test('no address, query or id makes the server fail', async () => {
  const part = fc.oneof(anyText(), fc.webQueryParameters(), fc.uuid());
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(
        '/v1/tenants?',
        '/v1/tenants?cursor=',
        '/v1/tenants?slug=',
        '/v1/tenants/',
        '/v1/operations/',
        '/',
      ),
      part,
      fc.boolean(),
      async (base, rest, encode) => {
        // What is not encoded here fetch makes sendable in its own way.
        const path = `${base}${encode ? encodeURIComponent(rest) : rest.replaceAll('#', '')}`;
        expect((await api.send(path)).status).toBeLessThan(500);
      },
    ),
    { numRuns: 400 },
  );
});

test('no cursor makes the server fail', async () => {
  const cursor = fc.oneof(
    fc.base64String(),
    fc
      .tuple(fc.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/), fc.uuid())
      .map(([at, id]) => Buffer.from(`${at}|${id}`).toString('base64url')),
  );
  await fc.assert(
    fc.asyncProperty(cursor, async (text) => {
      expect([200, 400]).toContain((await api.send(`/v1/tenants?cursor=${encodeURIComponent(text)}`)).status);
    }),
    { numRuns: 300 },
  );
});

test('no header makes the server fail', async () => {
  const value = fc.stringMatching(/^[\x20-\x7e]{0,300}$/);
  await fc.assert(
    fc.asyncProperty(value, value, value, async (key, prefer, accept) => {
      const headers = { 'idempotency-key': key, prefer, accept, 'content-type': 'application/json' };
      expect((await api.send('/v1/tenants', { raw: '{}', headers })).status).toBe(400);
    }),
    { numRuns: 200 },
  );
});
