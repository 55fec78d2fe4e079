import { connect } from 'node:net';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { tenantBody } from './support/bodies.js';
import { documentOf } from './support/conforms.js';
import { proxyBefore } from './support/proxy.js';

let world: World;
let api: Api;
beforeAll(async () => {
  world = await createWorld({ prepare: false });
  api = await startApi(world, { admissionTimeout: 500 });
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

describe('the token', () => {
  const OPEN = [
    '/livez',
    '/readyz',
    '/metrics',
    '/openapi.json',
    '/docs',
    '/docs/start.js',
    '/docs/swagger-ui.css',
  ];

  test('is needed on every route under /v1, and told so before anything else about the request', async () => {
    const { paths } = await documentOf(api.url);
    for (const [path, item] of Object.entries(paths).filter(([one]) => one.startsWith('/v1/')))
      for (const method of Object.keys(item)) {
        const reply = await api.send(path.replace('{id}', 'x'), {
          method: method.toUpperCase(),
          token: null,
        });
        expect([path, reply.status, reply.json['code']]).toEqual([path, 401, 'UNAUTHENTICATED']);
        expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer/);
      }
    expect((await api.send('/v1/nothing', { token: null })).status).toBe(401);
  });

  test.each([
    ['another one', 'x'.repeat(48)],
    ['an empty one', ''],
    ['one with more behind it', undefined],
  ])('is refused when it is %s', async (_what, token) => {
    expect((await api.send('/v1/tenants', { token: token ?? `${api.token}x` })).status).toBe(401);
  });

  test('is refused under another scheme', async () => {
    const headers = { authorization: `Basic ${api.token}` };
    expect((await api.send('/v1/tenants', { token: null, headers })).status).toBe(401);
  });

  test('lets its holder in, whatever the case of the scheme', async () => {
    expect((await api.send('/v1/tenants')).status).toBe(200);
    const headers = { authorization: `bearer ${api.token}` };
    expect((await api.send('/v1/tenants', { token: null, headers })).status).toBe(200);
  });

  test.each(OPEN)('is not needed for %s', async (path) => {
    expect([200, 503]).toContain((await api.send(path, { token: null })).status);
  });
});

describe('an address', () => {
  test.each([
    '/',
    '/v1',
    '/v1/',
    '/v1/tenants/',
    '/V1/tenants',
    '//v1/tenants',
    '/v1/tenants:other',
    '/v1/nothing',
  ])('that is not there is a 404 problem: %s', async (path) => {
    const reply = await api.send(path);
    expect([reply.status, reply.json['code']]).toEqual([404, 'NOT_FOUND']);
  });

  test('that cannot be decoded is a 404 problem', async () => {
    expect((await api.send('/v1/tenants/%ZZ')).json['code']).toBe('NOT_FOUND');
  });

  test.each([
    ['DELETE', '/v1/tenants', 'POST, GET, HEAD'],
    ['PUT', '/v1/tenants:batch', 'POST'],
    ['GET', '/v1/tenants:batch', 'POST'],
    ['GET', '/v1/operations/6b1f5a52-7c0e-4d2f-9a43-1f2e3d4c5b6a:retry', 'POST'],
    ['POST', '/v1/operations/6b1f5a52-7c0e-4d2f-9a43-1f2e3d4c5b6a', 'GET, HEAD'],
    ['OPTIONS', '/v1/tenants', 'POST, GET, HEAD'],
    ['POST', '/livez', 'GET, HEAD'],
  ])(
    'answers a method that it does not take with 405 and those that it does: %s %s',
    async (method, path, allow) => {
      const reply = await api.send(path, { method });
      expect([reply.status, reply.json['code'], reply.headers.get('allow')]).toEqual([
        405,
        'METHOD_NOT_ALLOWED',
        allow,
      ]);
    },
  );

  test('answers HEAD like GET without the body', async () => {
    const reply = await api.send('/v1/tenants', { method: 'HEAD' });
    expect([reply.status, reply.text]).toEqual([200, '']);
  });
});

describe('a request', () => {
  test('is heard in full, however many headers stand before its token', async () => {
    const headers = Array.from({ length: 300 }, (_, i) => `X-${i}: 1\r\n`).join('');
    const head = `GET /v1/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}`;
    expect(await api.write(`${head}Authorization: Bearer ${api.token}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('whose client hangs up before its end is its own fault, and no outage', async () => {
    const logged = api.logged.length;
    const head = `POST /v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${api.token}\r\n`;
    const socket = connect(api.server.port, '127.0.0.1');
    socket.write(`${head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{`, () =>
      socket.destroy(),
    );
    const ended = () => api.logged.slice(logged).find((line) => 'res' in line);
    await until('it is logged', ended);
    expect(ended()).toMatchObject({ res: { status: 400 } });
    expect(api.logged.slice(logged).filter(({ level }) => Number(level) > 30)).toEqual([]);
  });
});

describe('an answer', () => {
  test('has an id that its log line and its problem have too', async () => {
    const reply = await api.send('/v1/nothing');
    const id = reply.headers.get('x-request-id') ?? '';
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(reply.json['instance']).toBe(`urn:uuid:${id}`);
    expect(api.logged.some((line) => (line['req'] as { id?: string } | undefined)?.id === id)).toBe(true);
  });

  test('takes no id from the caller', async () => {
    const reply = await api.send('/livez', { headers: { 'x-request-id': 'mine' } });
    expect(reply.headers.get('x-request-id')).not.toBe('mine');
  });

  test('does not say what made it and is not sniffed or kept', async () => {
    const { headers } = await api.send('/v1/tenants');
    expect(headers.get('x-powered-by')).toBeNull();
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'");
  });

  test('is a problem with type, title, status and code', async () => {
    const reply = await api.send('/v1/tenants', { body: tenantBody({ slug: 'admin' }) });
    expect(reply.json).toEqual({
      type: 'urn:tenantry:problem:slug-reserved',
      title: 'Slug reserved',
      status: 400,
      code: 'SLUG_RESERVED',
      detail: 'The slug "admin" is reserved.',
      instance: expect.stringMatching(/^urn:uuid:/),
      errors: [{ field: 'slug', message: 'The slug "admin" is reserved.' }],
    });
  });

  test('comes also to a client that does not speak HTTP, or sends a head that is too large', async () => {
    expect(await api.write('hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect(await api.write(`GET /livez HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    );
  });
});

describe('the log', () => {
  test('has a line for each request, and never a body, a token, a query or a cookie', async () => {
    const secret = 'Very Secret Name GmbH';
    await api.send('/v1/tenants?slug=very-secret-slug', { headers: { cookie: 'very-secret-cookie=1' } });
    await api.send('/v1/tenants', { body: tenantBody({ name: secret, plan: 'gold' }) });
    await api.send('/v1/tenants', { token: 'a-very-secret-token-of-another-service' });
    const text = JSON.stringify(api.logged);
    expect(text).toContain('"path":"/v1/tenants"');
    expect(text).not.toMatch(/very.secret/i);
    expect(text).not.toContain(api.token);
    expect(text).not.toContain('authorization');
  });
});

describe('/metrics', () => {
  test('tells how long requests took by the template of their route, never by their path', async () => {
    await api.send('/v1/tenants/6b1f5a52-7c0e-4d2f-9a43-1f2e3d4c5b6a');
    await api.send('/v1/nothing-of-the-kind');
    const { text, headers } = await api.send('/metrics');
    expect(headers.get('content-type')).toMatch(/^text\/plain/);
    expect(text).toContain(
      'tenantry_http_request_duration_seconds_count{method="GET",route="/v1/tenants/{id}",status="404"} ',
    );
    expect(text).not.toContain('6b1f5a52');
    expect(text).not.toContain('nothing-of-the-kind');
  });
});

describe('the end of the server', () => {
  test('lets a request finish, also one that has to be withdrawn from a Temporal that hangs, and takes no more', async () => {
    const { proxy, url } = await proxyBefore(`tcp://${world.stack.temporalAddress}`);
    const other = await startApi(world, { admissionTimeout: 1_000, temporalAddress: new URL(url).host });
    try {
      proxy.hang();
      const body = tenantBody();
      const underWay = other.send('/v1/tenants', { body });
      // The request is in the server once its intake can be seen.
      await until('its intake is there', async () => {
        const { rowCount } = await world.catalogue.pool.query(
          `SELECT FROM request WHERE body ->> 'slug' = $1`,
          [body.slug],
        );
        return rowCount === 1;
      });
      const closed = other.close();
      expect((await underWay).json['code']).toBe('ENGINE_UNAVAILABLE');
      await closed;
      await expect(fetch(`${other.url}/livez`)).rejects.toThrow();
    } finally {
      await proxy.close();
    }
  });
});
