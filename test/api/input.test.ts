import { randomUUID } from 'node:crypto';
import { RESERVED_SLUGS } from '../../domain/requests.js';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { newSlug, tenantBody } from './support/bodies.js';
import { countRows, NOTHING } from './support/rows.js';

/** Nothing here reaches a workflow, so there is no worker: whatever is wrongly let through fails by its time-out. */
let world: World;
let api: Api;
beforeAll(async () => {
  world = await createWorld({ prepare: false });
  api = await startApi(world, { admissionTimeout: 500, bodyLimit: 400_000 });
});
afterEach(async () => {
  expect(await countRows(world)).toEqual(NOTHING);
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

async function refusal(path: string, asked: Parameters<Api['send']>[1]) {
  const reply = await api.send(path, asked);
  expect(reply.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  const errors = (reply.json['errors'] ?? []) as { field: string; message: string }[];
  return { status: reply.status, code: reply.json['code'], fields: errors.map((error) => error.field) };
}

describe('a tenant is refused with the field at fault, and nothing is made,', () => {
  const wrong: [what: string, body: unknown, field: string, code?: string][] = [
    ['when a field is unknown', tenantBody({ colour: 'red' }), 'colour'],
    [
      'when __proto__ is a field',
      JSON.parse(`{"slug":"${newSlug()}","name":"a","plan":"team","__proto__":{"x":1}}`),
      '__proto__',
    ],
    ['when constructor is a field', tenantBody({ constructor: { prototype: {} } }), 'constructor'],
    ['when the slug is missing', { name: 'Acme', plan: 'team' }, 'slug'],
    ['when the slug is a number', tenantBody({ slug: 7 }), 'slug'],
    ['when the slug is null', tenantBody({ slug: null }), 'slug'],
    ['when the slug is too short', tenantBody({ slug: 'ab' }), 'slug'],
    ['when the slug is too long', tenantBody({ slug: 'a'.repeat(64) }), 'slug'],
    ['when the slug has capitals', tenantBody({ slug: 'Acme' }), 'slug'],
    ['when the slug has a line break at its end', tenantBody({ slug: 'acme\n' }), 'slug'],
    ['when the slug is in another script', tenantBody({ slug: 'аcme' }), 'slug'],
    ['when the slug begins with a hyphen', tenantBody({ slug: '-acme' }), 'slug'],
    ['when the slug looks like an id', tenantBody({ slug: randomUUID() }), 'slug'],
    ['when the slug is reserved', tenantBody({ slug: 'admin' }), 'slug', 'SLUG_RESERVED'],
    ['when the name is missing', { slug: newSlug(), plan: 'team' }, 'name'],
    ['when the name is an object', tenantBody({ name: { toString: 'x' } }), 'name'],
    ['when the name is empty', tenantBody({ name: '' }), 'name'],
    ['when the name is only spaces', tenantBody({ name: ' \t ' }), 'name'],
    ['when the name is too long', tenantBody({ name: 'x'.repeat(201) }), 'name'],
    ['when the name has a NUL', tenantBody({ name: 'a\u0000b' }), 'name'],
    ['when the name has an escape sequence', tenantBody({ name: 'a\u001b[31mb' }), 'name'],
    ['when the name has a bidi override', tenantBody({ name: 'a\u202eb' }), 'name'],
    ['when the name has a lone surrogate', tenantBody({ name: 'a\ud800b' }), 'name'],
    ['when the plan is missing', { slug: newSlug(), name: 'Acme' }, 'plan'],
    ['when the plan is unknown', tenantBody({ plan: 'gold' }), 'plan', 'UNKNOWN_PLAN'],
    ['when the plan is a name of Object', tenantBody({ plan: 'toString' }), 'plan', 'UNKNOWN_PLAN'],
    ['when the plan has a NUL', tenantBody({ plan: 'te\u0000am' }), 'plan', 'UNKNOWN_PLAN'],
    ['when the cell is not a cell name', tenantBody({ cell: '../etc' }), 'cell'],
    ['when the cell is null', tenantBody({ cell: null }), 'cell'],
    ['when the body is an array', [tenantBody()], 'body'],
    ['when the body is a number', 7, 'body'],
    ['when the body is null', null, 'body'],
  ];
  test.each(wrong)('%s', async (_what, body, field, code = 'VALIDATION_FAILED') => {
    expect(await refusal('/v1/tenants', { body })).toEqual({ status: 400, code, fields: [field] });
  });

  test('each wrong field by its name when there are several', async () => {
    const found = await refusal('/v1/tenants', { body: { slug: 'A', name: '', colour: 1 } });
    expect(found.fields.sort()).toEqual(['colour', 'name', 'plan', 'slug']);
  });

  test('when any reserved slug is asked for', async () => {
    for (const slug of [...RESERVED_SLUGS].filter((one) => one.length >= 3))
      expect(await refusal('/v1/tenants', { body: tenantBody({ slug }) })).toMatchObject({
        code: 'SLUG_RESERVED',
      });
  });

  test('without repeating a key that the caller made up in full', async () => {
    const reply = await api.send('/v1/tenants', {
      body: tenantBody({ [`\u001b${'k'.repeat(100_000)}`]: 1 }),
    });
    expect(reply.status).toBe(400);
    expect(reply.text.length).toBeLessThan(1_000);
    expect(reply.text).not.toContain('\\u001b');
  });
});

describe('a body is refused before it is looked into', () => {
  const send = (raw: string | Buffer, headers: Record<string, string> = {}) =>
    refusal('/v1/tenants', { raw, headers: { 'content-type': 'application/json', ...headers } });
  const invalid = { status: 400, code: 'INVALID_JSON', fields: [] };
  const unsupported = { status: 415, code: 'UNSUPPORTED_MEDIA_TYPE', fields: [] };

  test.each([
    ['is cut off', '{"slug": "ac'],
    ['is empty', ''],
    ['has a trailing comma', '{"slug": "acme",}'],
    ['is two documents', '{}{}'],
    ['has a raw control character', '{"slug": "a\u0001"}'],
    ['is NaN', 'NaN'],
  ])('with INVALID_JSON when it %s', async (_what, raw) => {
    expect(await send(raw)).toEqual(invalid);
  });

  test('with INVALID_JSON when it is not UTF-8', async () => {
    const raw = Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]);
    expect(await send(raw)).toEqual(invalid);
  });

  test('with INVALID_JSON when there is none', async () => {
    const reply = await api.send('/v1/tenants', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    });
    expect(reply.json['code']).toBe('INVALID_JSON');
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'application/problem+json',
    '',
  ])('with 415 when it comes as %p', async (type) => {
    expect(await send(JSON.stringify(tenantBody()), { 'content-type': type })).toEqual(unsupported);
  });

  test('with 415 when it is compressed', async () => {
    expect(await send('{}', { 'content-encoding': 'gzip' })).toEqual(unsupported);
  });

  test('with 413 and the limit when it is too large, whether its length is told or not', async () => {
    const raw = JSON.stringify(tenantBody({ name: 'x'.repeat(500_000) }));
    const reply = await api.send('/v1/tenants', { raw, headers: { 'content-type': 'application/json' } });
    expect(reply.status).toBe(413);
    expect(reply.json).toMatchObject({
      code: 'BODY_TOO_LARGE',
      detail: 'The body is larger than 400000 bytes.',
    });
    const head = `POST /v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${api.token}\r\nConnection: close\r\n`;
    const chunked = `Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const chunk = `${raw.length.toString(16)}\r\n${raw}\r\n0\r\n\r\n`;
    expect(await api.write(head + chunked + chunk)).toMatch(/^HTTP\/1\.1 413 [^]*BODY_TOO_LARGE/);
  });

  test('quickly, however deep it is nested', async () => {
    const depth = 100_000;
    expect(await send(`${'['.repeat(depth)}${']'.repeat(depth)}`)).toMatchObject({
      status: 400,
      fields: ['body'],
    });
    expect(await send(`{"slug":${'{"a":'.repeat(30_000)}1${'}'.repeat(30_000)}}`)).toMatchObject({
      status: 400,
    });
  });
});

describe('an Idempotency-Key is refused', () => {
  test.each([
    ['that is empty', ''],
    ['that is too long', 'k'.repeat(256)],
    ['that is not ASCII', 'clé'],
  ])('%s', async (_what, key) => {
    expect(await refusal('/v1/tenants', { body: tenantBody(), headers: { 'idempotency-key': key } })).toEqual(
      {
        status: 400,
        code: 'VALIDATION_FAILED',
        fields: ['Idempotency-Key'],
      },
    );
  });
});

describe('a batch is refused as a whole', () => {
  const batch = (...tenants: unknown[]) => refusal('/v1/tenants:batch', { body: { tenants } });

  test.each([
    ['a reserved slug', { slug: 'admin' }, 'tenants[2].slug', 'SLUG_RESERVED'],
    ['a slug like an id', { slug: randomUUID() }, 'tenants[2].slug', 'VALIDATION_FAILED'],
    ['an unknown plan', { plan: 'gold' }, 'tenants[2].plan', 'UNKNOWN_PLAN'],
    ['an unknown field', { colour: 1 }, 'tenants[2].colour', 'VALIDATION_FAILED'],
    ['an empty name', { name: '' }, 'tenants[2].name', 'VALIDATION_FAILED'],
  ])('for %s in one of its tenants', async (_what, change, field, code) => {
    expect(await batch(tenantBody(), tenantBody(), tenantBody(change))).toEqual({
      status: 400,
      code,
      fields: [field],
    });
  });

  test('when it has no tenant', async () => {
    expect(await batch()).toEqual({ status: 400, code: 'VALIDATION_FAILED', fields: ['tenants'] });
  });

  test('when it has more than 1,000', async () => {
    const many = Array.from({ length: 1_001 }, () => tenantBody());
    expect(await batch(...many)).toEqual({ status: 400, code: 'VALIDATION_FAILED', fields: ['tenants'] });
  });

  test('naming only some of very many errors', async () => {
    const many = Array.from({ length: 1_000 }, () => ({}));
    expect((await batch(...many)).fields).toHaveLength(20);
  });
});

describe('a query is refused with its parameter', () => {
  test.each([
    ['limit=0', 'limit'],
    ['limit=201', 'limit'],
    ['limit=1.5', 'limit'],
    ['limit=many', 'limit'],
    ['limit=', 'limit'],
    ['limit=1&limit=2', 'limit'],
    ['state=happy', 'state'],
    ['state=active&state=failed', 'state'],
    ['cursor=nonsense', 'cursor'],
    [`cursor=${'x'.repeat(201)}`, 'cursor'],
    [
      `cursor=${Buffer.from(`2026-99-99T00:00:00.000000Z|${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}`).toString('base64url')}`,
      'cursor',
    ],
    ['slug=%00', 'slug'],
    ['plan=%00', 'plan'],
    ['cell=%00', 'cell'],
    ['offset=3', 'offset'],
    ['__proto__=3', '__proto__'],
  ])('%s', async (query, field) => {
    expect(await refusal(`/v1/tenants?${query}`, {})).toEqual({
      status: 400,
      code: 'VALIDATION_FAILED',
      fields: [field],
    });
  });

  test('also where none is taken', async () => {
    const found = await refusal('/v1/tenants?dryRun=true', { body: tenantBody() });
    expect(found).toEqual({ status: 400, code: 'VALIDATION_FAILED', fields: ['dryRun'] });
  });
});

describe('an id', () => {
  const nobody = '6b1f5a52-7c0e-4d2f-9a43-1f2e3d4c5b6a';
  test.each([
    ['GET', `/v1/tenants/${nobody}`, 'TENANT_NOT_FOUND'],
    ['GET', `/v1/tenants/${nobody}/allocations`, 'TENANT_NOT_FOUND'],
    ['GET', `/v1/tenants/${nobody.toUpperCase()}`, 'TENANT_NOT_FOUND'],
    ['GET', '/v1/tenants/00000000-0000-0000-0000-000000000000', 'TENANT_NOT_FOUND'],
    ['GET', `/v1/operations/${nobody}`, 'OPERATION_NOT_FOUND'],
    ['POST', `/v1/operations/${nobody}:retry`, 'OPERATION_NOT_FOUND'],
  ])('that nothing has is a 404: %s %s', async (method, path, code) => {
    expect(await refusal(path, { method })).toEqual({ status: 404, code, fields: [] });
  });

  test.each([
    ['GET', '/v1/tenants/acme'],
    ['GET', "/v1/tenants/1'%20OR%20true--/allocations"],
    ['GET', '/v1/operations/%00'],
    ['POST', '/v1/operations/7:retry'],
  ])('that is none is a 400: %s %s', async (method, path) => {
    expect(await refusal(path, { method })).toEqual({
      status: 400,
      code: 'VALIDATION_FAILED',
      fields: ['id'],
    });
  });
});
