/** Requests to a product's Express application: whose they are, and what is answered when that is nobody's to say. */
import type { Express, Request } from 'express';
import {
  claim,
  header,
  host,
  path,
  type Resolver,
  subdomain,
  type TenancyOptions,
  type Tenantry,
} from '../../../tenancy/index.js';
import { normaliseHost } from '../../../tenancy/express/resolvers.js';
import { createWorld, type World } from '../../support/world.js';
import { startProvision } from '../../support/provision.js';
import { until } from '../../support/until.js';
import { change, insertTenant, open, type Row } from '../context/support.js';
import { type Ask, type Reply, serveTellingWhose } from './telling-whose.js';

let world: World;
let tenantry: Tenantry;
let acme: Row;
let other: Row;
const closing: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  world = await createWorld();
  tenantry = open(world);
  await tenantry.listening;
  [acme, other] = [await insertTenant(world), await insertTenant(world)];
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
afterAll(async () => {
  await tenantry.close();
  await world.close();
});

async function serve(
  resolve: [Resolver, ...Resolver[]],
  more: { options?: Partial<TenancyOptions>; before?: (app: Express) => void; of?: Tenantry } = {},
): Promise<Ask> {
  const middleware = (more.of ?? tenantry).tenancy({ resolve, ...more.options });
  const { ask, close } = await serveTellingWhose(middleware, more.before);
  closing.push(close);
  return ask;
}

const whose = (reply: Reply): unknown => reply.body['tenantId'] ?? reply.body['code'];

test('a handler runs as the provisioned tenant that the host names', async () => {
  await world.startWorker();
  const asked = await world.ask();
  const { admission, handle } = await startProvision(world, asked);
  await admission;
  await handle.result();
  const get = await serve([subdomain('example.com')], { options: { principal: () => ({ id: 'ada' }) } });
  const reply = await get('/tickets', { host: `${asked.slug}.example.com` });
  expect(reply.body).toMatchObject({
    tenantId: asked.tenantId,
    pg: asked.tenantId,
    mode: 'open',
    principal: { id: 'ada' },
  });
});

describe('each place that may name it', () => {
  test('the host: in any case, with a port, a trailing dot or in Unicode', async () => {
    const get = await serve([subdomain('example.com')]);
    const is = async (name: string) => whose(await get('/', { host: name }));
    for (const name of [
      `${acme.slug}.example.com`,
      `${acme.slug.toUpperCase()}.Example.COM:8080`,
      `${acme.slug}.example.com.`,
      `${acme.slug}.example.com.:443`,
    ])
      expect([name, await is(name)]).toEqual([name, acme.tenantId]);
    for (const name of [
      'example.com',
      'www.example.com',
      `a.${acme.slug}.example.com`,
      `${acme.slug}.example.org`,
      `${acme.slug}.notexample.com`,
      `${acme.slug}example.com`,
      '.example.com',
      '[::1]',
      `${acme.slug}.example.com@evil.example`,
      `${acme.slug}.example.com,x.example.com`,
    ])
      expect([name, await is(name)]).toEqual([name, 'TENANT_NOT_FOUND']);
    expect(normaliseHost('BÜCHER.Example:80')).toBe('xn--bcher-kva.example');
    expect(normaliseHost('xn--bcher-kva.example.')).toBe('xn--bcher-kva.example');
  });

  test('the forwarded host, only when the proxy is trusted, and only one', async () => {
    const [trusting, not] = [
      await serve([subdomain('example.com', { trustForwardedHost: true })]),
      await serve([subdomain('example.com')]),
    ];
    const headers = { host: `${acme.slug}.example.com`, 'x-forwarded-host': `${other.slug}.example.com` };
    expect(whose(await trusting('/', headers))).toBe(other.tenantId);
    expect(whose(await not('/', headers))).toBe(acme.tenantId);
    expect(
      whose(
        await trusting('/', {
          ...headers,
          'x-forwarded-host': `${acme.slug}.example.com, ${other.slug}.example.com`,
        }),
      ),
    ).toBe('TENANT_NOT_FOUND');
  });

  test("a host of the customer's own", async () => {
    const get = await serve([host((name) => (name === 'help.acme.test' ? acme.slug : undefined))]);
    expect(whose(await get('/', { host: 'HELP.acme.test:81' }))).toBe(acme.tenantId);
    expect(whose(await get('/', { host: 'help.other.test' }))).toBe('TENANT_NOT_FOUND');
  });

  test('the path, with its prefix stripped or not', async () => {
    const stripping = await serve([path('/t/')]);
    expect((await stripping(`/t/${acme.slug}/tickets?page=2`)).body).toMatchObject({
      tenantId: acme.tenantId,
      url: '/tickets?page=2',
    });
    expect((await stripping(`/t/${acme.slug}`)).body).toMatchObject({ tenantId: acme.tenantId, url: '/' });
    expect((await stripping(`/t/${acme.slug}?a=1`)).body).toMatchObject({
      tenantId: acme.tenantId,
      url: '/?a=1',
    });
    for (const url of [
      '/',
      '/t',
      '/t/',
      '/tickets',
      `/T/${acme.slug}/x`,
      `/t/${acme.slug.toUpperCase()}/x`,
      `/t/%${acme.slug.charCodeAt(0).toString(16)}${acme.slug.slice(1)}/x`,
      `/t//${acme.slug}`,
      `/t/../t/x/${acme.slug}`,
    ])
      expect([url, whose(await stripping(url))]).toEqual([url, 'TENANT_NOT_FOUND']);
    const whole = await serve([path('/', { strip: false })]);
    expect((await whole(`/${acme.slug}/tickets`)).body).toMatchObject({
      tenantId: acme.tenantId,
      url: `/${acme.slug}/tickets`,
    });
  });

  test('a header, with a slug or an id, and once', async () => {
    const get = await serve([header('X-Tenant')]);
    expect(whose(await get('/', { 'x-tenant': acme.slug }))).toBe(acme.tenantId);
    expect(whose(await get('/', { 'x-tenant': other.tenantId }))).toBe(other.tenantId);
    expect(whose(await get('/', { 'x-tenant': `${acme.slug}, ${acme.slug}` }))).toBe('TENANT_NOT_FOUND');
  });

  test('a claim of a token that was verified, and never the token itself', async () => {
    const authenticated = (app: Express): void =>
      void app.use((request: Request & { auth?: unknown }, _response, next) => {
        const [kind, name] = (request.headers.authorization ?? '').split(' ');
        if (kind === 'Payload') request.auth = { header: {}, payload: { tenant: name }, token: 'a.b.c' };
        if (kind === 'Plain') request.auth = { tenant: name };
        if (kind === 'Odd') request.auth = { tenant: [name] };
        next();
      });
    const get = await serve([claim('tenant')], { before: authenticated });
    for (const kind of ['Payload', 'Plain'])
      expect(whose(await get('/', { authorization: `${kind} ${acme.tenantId}` }))).toBe(acme.tenantId);
    expect(whose(await get('/', { authorization: `Odd ${acme.tenantId}` }))).toBe('TENANT_NOT_FOUND');
    const forged = [{ alg: 'none' }, { tenant: acme.tenantId }]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    expect(whose(await get('/', { authorization: `Bearer ${forged}.` }))).toBe('TENANT_NOT_FOUND');
    const own = await serve([claim('org', (request) => request.headers['x-verified'])]);
    expect(whose(await own('/', { 'x-verified': other.slug }))).toBe(other.tenantId);
  });
});

describe('several places', () => {
  const resolvers: [Resolver, ...Resolver[]] = [subdomain('example.com'), header('x-tenant'), path('/t/')];

  test('that agree are one, by slug or by id', async () => {
    const get = await serve(resolvers);
    expect(
      (await get(`/t/${acme.slug}/x`, { host: `${acme.slug}.example.com`, 'x-tenant': acme.tenantId })).body,
    ).toMatchObject({ tenantId: acme.tenantId, url: '/x' });
    expect(whose(await get('/', { 'x-tenant': acme.slug }))).toBe(acme.tenantId);
  });

  test('that disagree are refused with their names, and say nothing of who exists', async () => {
    const get = await serve(resolvers);
    const headers = { host: `${acme.slug}.example.com` };
    const answers = await Promise.all(
      [other.slug, other.tenantId, 'nobody', 'NOT A SLUG', '0190a3d0-0000-7000-8000-000000000000'].map(
        (name) => get('/', { ...headers, 'x-tenant': name }),
      ),
    );
    for (const { status, type, body } of answers) {
      expect([status, type]).toEqual([400, expect.stringContaining('application/problem+json')]);
      expect({ ...body, instance: '' }).toEqual({
        type: 'urn:tenantry:problem:tenant-ambiguous',
        title: 'Tenant ambiguous',
        status: 400,
        code: 'TENANT_AMBIGUOUS',
        detail: 'The request names two different tenants (subdomain, header x-tenant).',
        instance: '',
      });
    }
    // Again, when all of them are in memory.
    expect((await get('/', { ...headers, 'x-tenant': other.slug })).status).toBe(400);
  });

  test('none of which names one: 404', async () => {
    const get = await serve(resolvers);
    expect(await get('/', { host: 'localhost' })).toMatchObject({
      status: 404,
      body: { code: 'TENANT_NOT_FOUND' },
    });
  });
});

test('each state of a tenant has its answer, one problem type each', async () => {
  const get = await serve([header('x-tenant')]);
  const answers = [
    ['unknown', '', 404, 'TENANT_NOT_FOUND'],
    ['pending', '', 503, 'TENANT_NOT_READY'],
    ['provisioning', '', 503, 'TENANT_NOT_READY'],
    ['failed', '', 503, 'TENANT_NOT_READY'],
    ['inactive', '', 403, 'TENANT_INACTIVE'],
    ['suspended', 'blocked', 403, 'TENANT_SUSPENDED'],
    ['deprovisioning', '', 403, 'TENANT_SUSPENDED'],
    ['purging', '', 410, 'TENANT_GONE'],
    ['deleted', '', 410, 'TENANT_GONE'],
  ] as const;
  for (const [state, mode, status, code] of answers) {
    const slug =
      state === 'unknown' ? 'unknown' : (await insertTenant(world, { state, mode: mode || 'open' })).slug;
    const reply = await get('/', { 'x-tenant': slug });
    expect([state, reply.status, reply.body['code'], reply.body['mode']]).toEqual([
      state,
      status,
      code,
      code === 'TENANT_SUSPENDED' ? 'blocked' : undefined,
    ]);
    expect(reply.type).toContain('application/problem+json');
    expect(reply.headers).toMatchObject({
      'cache-control': 'no-store',
      ...(status === 503 ? { 'retry-after': '2' } : {}),
    });
    expect(JSON.stringify(reply.body)).not.toContain(slug === 'unknown' ? '"slug"' : slug);
  }
});

test('a tenant that is suspended read-only is read and not written', async () => {
  const get = await serve([header('x-tenant')]);
  const { slug, tenantId } = await insertTenant(world);
  expect((await get('/', { 'x-tenant': slug }, 'POST')).status).toBe(200);
  await change(world, tenantId, { state: 'suspended', mode: 'read-only' });
  await until(
    'it is read-only',
    async () => (await get('/', { 'x-tenant': slug })).body['mode'] === 'read-only',
    1_000,
  );
  for (const method of ['GET', 'HEAD', 'OPTIONS'])
    expect([method, (await get('/', { 'x-tenant': slug }, method)).status]).toEqual([method, 200]);
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
    expect(await get('/', { 'x-tenant': slug }, method)).toMatchObject({
      status: 403,
      body: { code: 'TENANT_SUSPENDED', mode: 'read-only' },
    });
});

describe('trace context', () => {
  const trace = '0af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${trace}-b7ad6b7169203331-01`;

  test('that is made to be slow to read is not: each property of baggage costs as much as the one before', async () => {
    const get = await serve([header('x-tenant')]);
    // Two ways to read each blank would be 2^400 for all.
    const baggage = `a=1${';a= '.repeat(400)}"`;
    expect((await get('/', { 'x-tenant': acme.slug, baggage })).body['baggage']).toBeUndefined();
    const wellFormed = `a= ;b=1 ; c ,\td \t=\t2${';e= '.repeat(400)}`;
    expect((await get('/', { 'x-tenant': acme.slug, baggage: wellFormed })).body['baggage']).toBe(
      wellFormed.trim(),
    );
  });

  test('goes along, and its id is the correlation', async () => {
    const get = await serve([header('x-tenant')]);
    const baggage = 'userId=alice;ttl=3, serverNode=DF%2028';
    expect((await get('/', { 'x-tenant': acme.slug, traceparent, baggage })).body).toMatchObject({
      traceparent,
      baggage,
      correlationId: trace,
    });
    const later = `01-${trace}-b7ad6b7169203331-01-more`;
    expect((await get('/', { 'x-tenant': acme.slug, traceparent: later })).body).toMatchObject({
      traceparent: later,
    });
  });

  test.each([
    '',
    'x',
    `ff-${trace}-b7ad6b7169203331-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `${traceparent}-more`,
    traceparent.toUpperCase(),
    `${traceparent}, ${traceparent}`,
    `01-${trace}-b7ad6b7169203331-01-${'x'.repeat(500)}`,
  ])('that is not well formed is not there: %j', async (wrong) => {
    const get = await serve([header('x-tenant')]);
    const { body } = await get('/', { 'x-tenant': acme.slug, traceparent: wrong });
    expect(body['traceparent']).toBeUndefined();
    expect(body['correlationId']).toMatch(/^[0-9a-f]{8}-/);
  });

  test.each([
    ' ',
    'a',
    'a=b c',
    'a="b"',
    `a=${'x'.repeat(8_200)}`,
    Array.from({ length: 65 }, (_, i) => `k${i}=v`).join(),
  ])('baggage that is not well formed or too much is not passed on: %#', async (baggage) => {
    const get = await serve([header('x-tenant')]);
    expect((await get('/', { 'x-tenant': acme.slug, baggage })).body['baggage']).toBeUndefined();
  });
});

test('a request does not go on from one tenant to another, known or not yet', async () => {
  const unknownYet = await insertTenant(world);
  const get = await serve([header('x-inner')], {
    before: (app) => void app.use(tenantry.tenancy({ resolve: [header('x-outer')] })),
  });
  expect(whose(await get('/', { 'x-outer': acme.slug, 'x-inner': acme.tenantId }))).toBe(acme.tenantId);
  for (const inner of [unknownYet.slug, unknownYet.slug, other.slug])
    expect(await get('/', { 'x-outer': acme.slug, 'x-inner': inner })).toMatchObject({
      status: 500,
      body: { code: 'NESTED_TENANT_CONTEXT' },
    });
});

test('two tenants over the same connections never mix', async () => {
  const get = await serve([header('x-tenant')]);
  await Promise.all(
    Array.from({ length: 600 }, async (_, i) => {
      const one = i % 2 === 0 ? acme : other;
      const { body } = await get(
        '/',
        { 'x-tenant': i % 3 === 0 ? one.slug : one.tenantId },
        i % 5 === 0 ? 'POST' : 'GET',
      );
      expect([body['tenantId'], body['pg']]).toEqual([one.tenantId, one.tenantId]);
    }),
  );
});

test('when the catalogue cannot be asked: 503, and nothing by default', async () => {
  const own = open(world, { catalogueUrl: 'postgresql://nobody@127.0.0.1:1/none' });
  const get = await serve([header('x-tenant')], { of: own });
  const reply = await get('/', { 'x-tenant': acme.slug });
  expect([reply.status, reply.body['code'], reply.headers['retry-after']]).toEqual([
    503,
    'CATALOGUE_UNAVAILABLE',
    '2',
  ]);
  await own.close();
});
