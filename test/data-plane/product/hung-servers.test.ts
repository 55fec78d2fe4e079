/** A product's process whose servers hang: it ends when it is told to, with nothing that keeps it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { openLink } from '../../support/link.js';
import { provisioned } from '../../support/provision.js';
import { createWorld } from '../../support/world.js';

/** Uses every store once, says so, and closes when it is told to. It does not call `process.exit`. */
const PRODUCT = `
  const { openTenantry, productStores } = require('./tenancy/index.js');
  const { loadManifest } = require('./domain/load-manifest.js');
  const { env } = process;
  (async () => {
    const tenantry = openTenantry({
      catalogueUrl: env.CATALOGUE,
      rootKey: Buffer.from(env.TENANTRY_ROOT_KEY, 'base64'),
      signingKeys: { sign: { id: 'k1', secret: Buffer.alloc(32) } },
      resolveSecret: (reference) => env[reference.replace(/^env:/, '')],
      stores: productStores({ manifest: await loadManifest(undefined) }),
    });
    await tenantry.listening;
    await tenantry.runWithTenant(env.TENANT, async ({ pg, mongo, redis }) => {
      await pg.query('SELECT FROM app.customers');
      await pg.transaction((tx) => tx.query('SELECT FROM app.customers'));
      await mongo.collection('transcripts').findOne({});
      await redis.namespace('cache').get('a');
    });
    process.send('used');
    process.once('message', () => tenantry.close().then(() => process.disconnect()));
  })();
`;

it('ends when it has closed, though none of its servers says goodbye', async () => {
  const world = await createWorld();
  await world.startWorker();
  const tenant = await provisioned(world);
  const through = {
    CATALOGUE: await openLink(world.url('control', 'lookup')),
    TENANTRY_CELL_POSTGRES_RUNTIME_URL: await openLink(world.url('cell', 'runtime')),
    TENANTRY_CELL_MONGO_URL: await openLink(world.env['TENANTRY_CELL_MONGO_URL'] ?? ''),
    TENANTRY_CELL_REDIS_URL: await openLink(world.env['TENANTRY_CELL_REDIS_URL'] ?? ''),
  };
  const links = Object.values(through);
  const child = spawn(process.execPath, ['-e', PRODUCT], {
    cwd: path.join(__dirname, '..', '..', '..', 'dist'),
    env: {
      ...process.env,
      ...world.env,
      ...Object.fromEntries(Object.entries(through).map(([name, { url }]) => [name, url])),
      TENANT: tenant,
    },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    const ended = once(child, 'exit');
    expect((await Promise.race([once(child, 'message'), ended]))[0]).toBe('used');
    for (const link of links) expect(link.connections()).toBeGreaterThan(0);
    for (const link of links) link.hold();
    child.send('close');
    const late = new Promise((resolve) => setTimeout(resolve, 30_000, 'it is still there').unref());
    expect(await Promise.race([ended, late])).toEqual([0, null]);
  } finally {
    child.kill('SIGKILL');
    for (const link of links) link.cut();
    await Promise.all(links.map((link) => link.close()));
    await world.close();
  }
});
