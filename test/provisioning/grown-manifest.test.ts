/** A manifest may gain collections. What failed under the old one is retried under the new one. */
import { createActivities } from '../../activities/index.js';
import { openCatalogue } from '../../catalogue/index.js';
import type { OperationId, TenantId } from '../../domain/ids.js';
import { createLogger } from '../../domain/log.js';
import { defineManifest } from '../../domain/manifest.js';
import { redisMarkerKey } from '../../domain/names.js';
import supportDesk from '../../manifest/support-desk.js';
import { compose } from '../../worker/compose.js';
import { expectAgreement } from '../support/agreement.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { startProvision } from '../support/provision.js';
import { createWorld, type World } from '../support/world.js';

const grown = defineManifest({
  ...supportDesk,
  version: 2,
  mongo: {
    collections: {
      ...supportDesk.mongo.collections,
      notes: { fields: { text: { type: 'string' } }, indexes: [{ fields: ['text'] }] },
    },
  },
});

let world: World;
let grownUp: Awaited<ReturnType<typeof composeGrown>>;
beforeAll(async () => {
  world = await createWorld();
  grownUp = await composeGrown();
});
afterAll(async () => {
  await grownUp.close();
  await world.close();
});

it.each([
  [
    'a tenant',
    async () => {
      const asked = await world.ask();
      await spoil(asked.tenantId);
      const run = (attempt: number) => startProvision(world, { ...asked, attempt });
      return { ...asked, run };
    },
  ],
  [
    'a batch',
    async () => {
      const operationId = await askForBatch(world, newSlugs(2));
      await world.activities.admitBatch({ operationId, attempt: 1 });
      const [item] = await world.catalogue.operations.batchItems(operationId);
      if (!item?.tenantId) throw new Error('no tenant');
      await spoil(item.tenantId);
      const run = (attempt: number) => startBatch(world, operationId, attempt);
      return { operationId, tenantId: item.tenantId, run };
    },
  ],
] as const)('%s gets the new collection by the retry, and the ledger knows it', async (_, fail) => {
  const { operationId, tenantId, run } = await fail();
  const before = await world.startWorker();
  await expect(run(1).then(({ handle }) => handle.result())).rejects.toThrow();
  await before.stop();
  await mend(tenantId);

  const after = await world.startWorker({ activities: grownUp.activities });
  expect(await run(2).then(({ handle }) => handle.result())).toEqual({ status: 'succeeded' });
  await after.stop();
  await expectSucceeded(operationId);
  const found = await expectAgreement(world, tenantId);
  expect(found.filter(({ name }) => name.endsWith('.notes'))).toHaveLength(1);
});

async function composeGrown() {
  const catalogue = openCatalogue({ url: world.env['TENANTRY_CATALOGUE_URL'] ?? '', name: 'grown' });
  const composition = compose({
    catalogue,
    manifest: grown,
    rootKey: Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
    resolveSecret: (reference) => world.env[reference.replace(/^env:/, '')] ?? '',
    poolSize: 4,
    log: createLogger({ level: 'silent' }),
    tryEnforcement: () => Promise.resolve(world.stack.mongoTrial),
  });
  return {
    activities: createActivities(composition.dependencies),
    async close() {
      await composition.close();
      await catalogue.close();
    },
  };
}

async function spoil(tenantId: TenantId): Promise<void> {
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(tenantId), 'of somebody else');
}

async function mend(tenantId: TenantId): Promise<void> {
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.del(redisMarkerKey(tenantId));
}

async function expectSucceeded(operationId: OperationId): Promise<void> {
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({
    status: 'succeeded',
    attempt: 2,
  });
}
