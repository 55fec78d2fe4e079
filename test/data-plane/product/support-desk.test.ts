/** The whole way: tenants provisioned by the workflow, then a product's application at work for them in all three stores. */
import { once } from 'node:events';
import { createServer, request as ask, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createSupportDesk } from '../../../examples/express/app.js';
import { productStores, type Tenantry } from '../../../tenancy/index.js';
import { provisioned } from '../../support/provision.js';
import { createWorld, type World } from '../../support/world.js';
import { open } from '../context/support.js';

let world: World;
let tenantry: Tenantry;
let server: Server;
let acme: string;
let initech: string;

beforeAll(async () => {
  world = await createWorld();
  await world.startWorker();
  [acme, initech] = await Promise.all([provisioned(world), provisioned(world)]);
  tenantry = open(world, { stores: productStores({ manifest: world.manifest }) });
  await tenantry.listening;
  server = createServer(createSupportDesk(tenantry)).listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  await tenantry.close();
  await world.close();
});

it('a row, a document and a counter of one tenant are there for it and for nobody else', async () => {
  expect(await post(acme, '/customers', { email: 'a@acme.example', name: 'A' })).toMatchObject({
    status: 201,
  });
  expect(await post(acme, '/conversations/7/transcripts', { text: 'hello' })).toMatchObject({ status: 201 });
  expect(await post(acme, '/visits')).toMatchObject({ status: 200, body: { visits: 1 } });
  expect(await post(acme, '/visits')).toMatchObject({ status: 200, body: { visits: 2 } });

  expect(await get(acme, '/customers')).toMatchObject({ body: [{ email: 'a@acme.example', name: 'A' }] });
  expect(await get(acme, '/conversations/7/transcripts')).toMatchObject({ body: [{ text: 'hello' }] });

  expect(await get(initech, '/customers')).toEqual({ status: 200, body: [] });
  expect(await get(initech, '/conversations/7/transcripts')).toEqual({ status: 200, body: [] });
  expect(await post(initech, '/visits')).toMatchObject({ status: 200, body: { visits: 1 } });
});

it('the same key may be used by each, so none tells of another', async () => {
  for (const slug of [acme, initech])
    expect(await post(slug, '/customers', { email: 'same@example.com', name: 'S' })).toMatchObject({
      status: 201,
    });
});

it('requests of both at once never meet', async () => {
  const slugs = Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? acme : initech));
  await Promise.all(
    slugs.map((slug, i) => post(slug, `/conversations/at-once/transcripts`, { text: `${slug} ${i}` })),
  );
  for (const slug of [acme, initech]) {
    const { body } = await get(slug, '/conversations/at-once/transcripts');
    const texts = (body as { text: string }[]).map(({ text }) => text.split(' ')[0]);
    expect(texts).toEqual(Array.from({ length: 30 }, () => slug));
  }
});

it('a request that names nobody, or two, reaches nothing', async () => {
  expect(await get('nobody-here', '/customers')).toMatchObject({
    status: 404,
    body: { code: 'TENANT_NOT_FOUND' },
  });
  expect(await get(acme, '/customers', { 'x-tenant': initech })).toMatchObject({
    status: 400,
    body: { code: 'TENANT_AMBIGUOUS' },
  });
});

it('a tenant whose gate is closed in the database sees nothing, whatever the process believes', async () => {
  const gate = (mode: string): Promise<unknown> =>
    world.dependencies.cells
      .get(world.cell)
      .then(({ postgres }) =>
        postgres.control.query(`UPDATE tenantry.gate SET mode = $2 WHERE tenant_id = (SELECT $1::uuid)`, [
          acmeId,
          mode,
        ]),
      );
  const acmeId = await tenantry.runWithTenant(acme, ({ tenantId }) => tenantId);
  await gate('blocked');
  expect(await get(acme, '/customers')).toEqual({ status: 200, body: [] });
  await gate('open');
  expect((await get(acme, '/customers')).body).not.toEqual([]);
});

it('a MongoDB behind a load balancer is refused to the product', async () => {
  const env = { ...world.env, TENANTRY_CELL_MONGO_URL: 'mongodb://127.0.0.1:1/?loadBalanced=true' };
  const behind = open({ ...world, env }, { stores: productStores({ manifest: world.manifest }) });
  await expect(behind.runWithTenant(acme, () => 'entered')).rejects.toMatchObject({
    code: 'STORE_REFUSED',
    message: expect.stringContaining('loadBalanced') as string,
  });
  await behind.close();
});

it('what was kept from one tenant is of no use to code that runs for another, in any store', async () => {
  const kept = await tenantry.runWithTenant(acme, ({ pg, mongo, redis }) => ({ pg, mongo, redis }));
  const uses: Record<string, () => Promise<unknown>> = {
    query: () => kept.pg.query('SELECT 1'),
    transaction: () => kept.pg.transaction((tx) => tx.query('SELECT 1')),
    pool: () => kept.pg.pool.query('SELECT 1'),
    collection: () => kept.mongo.collection('transcripts').findOne({}),
    namespace: () => kept.redis.namespace('cache').get('a'),
    pipeline: () => kept.redis.namespace('cache').pipeline().get('a').exec(),
  };
  for (const [name, use] of Object.entries(uses)) {
    const used = tenantry.runWithTenant(initech, () => use());
    expect([name, await used.catch((error: unknown) => error)]).toEqual([
      name,
      expect.objectContaining({ code: 'NESTED_TENANT_CONTEXT' }),
    ]);
    await tenantry.runWithTenant(acme, () => use());
  }
});

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

const get = (slug: string, path: string, headers: Record<string, string> = {}): Promise<Reply> =>
  send('GET', slug, path, undefined, headers);
const post = (slug: string, path: string, body?: unknown): Promise<Reply> => send('POST', slug, path, body);

function send(
  method: string,
  slug: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = ask(
      {
        host: '127.0.0.1',
        port: (server.address() as AddressInfo).port,
        method,
        path,
        headers: { host: `${slug}.desk.example`, 'content-type': 'application/json', ...headers },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.once('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: text === '' ? undefined : (JSON.parse(text) as unknown),
          }),
        );
      },
    );
    sent.once('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
