/**
 * A step that was overtaken and comes to its end when the catalogue cannot be asked what has become of its run: what it made is
 * taken back as soon as it can be.
 */
import { MockActivityEnvironment } from '@temporalio/testing';
import { withClient } from '../../catalogue/bootstrap.js';
import type { TenantId } from '../../domain/ids.js';
import { surveyTenant } from '../../tenancy/survey.js';
import { askForBatch, newSlugs } from '../support/batch.js';
import { expectActive, expectNothingLeft, expectUndone } from '../support/expect.js';
import { signal } from '../support/holds.js';
import { askAndAdmit, CLOSED, make, proveAndActivate, undoAndClose } from '../support/steps.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { stuckAt } from './support/zombie.js';

const AWAY = { type: 'CATALOGUE_UNAVAILABLE', nonRetryable: false };

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it.each([
  ['provisionPostgres', 'after begin postgres', 'all of it', AWAY],
  ['provisionMongo', 'after begin mongo', 'all of it', AWAY],
  ['provisionRedis', 'after begin redis', 'all of it', AWAY],
  ['provisionMongo', 'after begin mongo', 'half of it', { type: 'STORE_UNAVAILABLE' }],
] as const)('%s, %s: makes %s after its run was undone and closed', async (step, point, made, failure) => {
  const { asked, fence } = await askAndAdmit(world);
  const takingBack = watched();
  const cut = made === 'half of it' ? { at: 'before createUser' } : undefined;
  const zombie = await stuckAt(takingBack.world, point, (activities) => activities[step](fence), cut);
  await undoAndClose(world, fence);
  await whileCatalogueIsAway(async () => {
    zombie.release();
    expect(await zombie.result).toMatchObject(failure);
    await takingBack.failed;
    expect(await leftOf(asked.tenantId)).not.toEqual([]);
  });
  await untilNothingIsLeft(asked.tenantId);
  await expectUndone(world, asked, CLOSED);
});

it('a step that was not overtaken keeps what it made', async () => {
  const { asked, fence } = await askAndAdmit(world);
  const takingBack = watched();
  const standing = await stuckAt(takingBack.world, 'after begin mongo', ({ provisionMongo }) =>
    provisionMongo(fence),
  );
  await whileCatalogueIsAway(async () => {
    standing.release();
    expect(await standing.result).toMatchObject(AWAY);
    await takingBack.failed;
  });
  await takingBack.done;
  expect(await leftOf(asked.tenantId)).not.toEqual([]);
  await make(world, fence);
  await proveAndActivate(world, fence);
  await expectActive(world, asked);
});

it('a chunk of a batch makes its tenants after they were undone', async () => {
  const { activities, catalogue } = world;
  const operationId = await askForBatch(world, newSlugs(2));
  await activities.admitBatch({ operationId, attempt: 1 });
  const fence = { operationId, attempt: 1, ordinals: [0, 1] };
  const zombie = await stuckAt(world, 'after begin mongo 1-2', ({ batchMongo }) =>
    new MockActivityEnvironment().run(batchMongo, fence),
  );
  const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
  await activities.batchFail({ ...fence, status: 'failed', error });
  await new MockActivityEnvironment().run(activities.batchUndo, fence);
  await activities.closeBatch(fence);
  const tenants = (await catalogue.operations.batchItems(operationId)).flatMap(({ tenantId }) =>
    tenantId === null ? [] : [tenantId],
  );
  await whileCatalogueIsAway(async () => {
    zombie.release();
    expect(await zombie.result).toMatchObject(AWAY);
    for (const tenant of tenants) expect(await leftOf(tenant)).not.toEqual([]);
  });
  for (const tenant of tenants) {
    await untilNothingIsLeft(tenant);
    await expectNothingLeft(world, tenant);
  }
});

/** A world that tells when something could not be taken back, and when that was settled. */
function watched() {
  const { dependencies } = world;
  const { catalogue } = dependencies;
  const [failed, done] = [signal(), signal()];
  const takeBack: typeof catalogue.steps.takeBack = async (...asked) => {
    try {
      const failures = await catalogue.steps.takeBack(...asked);
      done.give();
      return failures;
    } catch (error) {
      failed.give();
      throw error;
    }
  };
  const steps = { ...catalogue.steps, takeBack };
  return {
    world: { ...world, dependencies: { ...dependencies, catalogue: { ...catalogue, steps } } },
    failed: failed.given,
    done: done.given,
  };
}

/** Of this world alone: its database takes no connection, and those that there are break. */
async function whileCatalogueIsAway(work: () => Promise<void>): Promise<void> {
  const { pathname } = new URL(world.url('control'));
  const limit = `ALTER DATABASE ${pathname.slice(1)} CONNECTION LIMIT`;
  await withClient(world.url('control'), async (client) => {
    await client.query(`${limit} 0`);
    await client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()`,
    );
    try {
      await work();
    } finally {
      await client.query(`${limit} -1`);
    }
  });
}

const leftOf = async (tenant: TenantId) =>
  surveyTenant(await world.dependencies.cells.get(world.cell), tenant);

const untilNothingIsLeft = (tenant: TenantId) =>
  until('nothing is left in the stores', async () => (await leftOf(tenant)).length === 0);
