/** The same thing asked for, or done, twice at once. */
import { Collection } from 'mongodb';
import { withClient } from '../../catalogue/bootstrap.js';
import { openCatalogue } from '../../catalogue/index.js';
import { newOperationId, newTenantId } from '../../domain/ids.js';
import { createLogger } from '../../domain/log.js';
import { redisMarkerKey } from '../../domain/names.js';
import { expectAgreement } from '../support/agreement.js';
import { probeMongo } from '../../tenancy/mongo/probe.js';
import { compose } from '../../worker/compose.js';
import { expectActive, expectCanary, expectNothingLeft, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { whileLocked } from '../support/locks.js';
import { startProvision } from '../support/provision.js';
import { type Asked, askAndAdmit, make } from '../support/steps.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';

let world: World;
/** Tenants in the cell before the test. */
let tenants: number;
const tenantsNow = async (): Promise<number> => (await world.catalogue.cells.find(world.cell))?.tenants ?? 0;
beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  tenants = await tenantsNow();
});
afterAll(() => world.close());

describe('two provisionings at once', () => {
  const holds = createHolds();
  let worker: RunningWorker;
  beforeAll(async () => {
    worker = await world.startWorker(holds.stepIn);
  });
  afterAll(() => worker.stop());

  it('of one tenant: the first runs, the second is told which operation is running', async () => {
    const asked = await world.ask();
    const hold = holds.at('before begin mongo');
    const first = await startProvision(world, asked);
    await hold.reached;
    const second = await startProvision(world, { ...asked, operationId: newOperationId() });
    await expect(second.admission).rejects.toMatchObject({
      cause: { type: 'OPERATION_RUNNING', details: [{ operationId: asked.operationId }] },
    });
    hold.release();
    expect(await first.admission).toMatchObject({ tenantId: asked.tenantId });
    expect(await first.handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
  });

  it('of one tenant at the same moment: one is admitted, the other refused, whichever comes first', async () => {
    const asked = await world.ask();
    const rival = { ...(await world.ask()), tenantId: asked.tenantId };
    await world.catalogue.pool.query('UPDATE request SET tenant_id = $1 WHERE operation_id = $2', [
      rival.tenantId,
      rival.operationId,
    ]);
    const runs = await Promise.all([startProvision(world, asked), startProvision(world, rival)]);
    const answers = await Promise.allSettled(runs.map(({ admission }) => admission));
    const refused = answers.findIndex(({ status }) => status === 'rejected');
    expect(answers[refused]).toMatchObject({ reason: { cause: { type: 'OPERATION_RUNNING' } } });
    expect(answers[1 - refused]).toMatchObject({ status: 'fulfilled' });
    expect(await runs[1 - refused]?.handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, refused === 1 ? asked : rival);
  });

  it('with one operation id get one answer and one run', async () => {
    const asked = await world.ask();
    const both = await Promise.all([startProvision(world, asked), startProvision(world, asked)]);
    const [one, other] = await Promise.all(both.map(({ admission }) => admission));
    expect(one).toEqual(other);
    expect(await both[0].handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
    expect((await world.catalogue.operations.find(asked.operationId))?.attempt).toBe(1);
  });

  it('with one slug: one gets it, of the other nothing is left', async () => {
    const asked = await world.ask();
    const rival = await world.ask({ slug: asked.slug });
    const runs = await Promise.all([startProvision(world, asked), startProvision(world, rival)]);
    const answers = await Promise.allSettled(runs.map(({ admission }) => admission));
    const refused = answers.findIndex(({ status }) => status === 'rejected');
    const [winner, loser] = refused === 1 ? [asked, rival] : [rival, asked];
    expect(answers[refused]).toMatchObject({ reason: { cause: { type: 'SLUG_TAKEN' } } });
    expect(await runs[refused]?.handle.result()).toEqual({ status: 'refused' });
    expect(await runs[1 - refused]?.handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, winner);
    expect(await world.catalogue.tenants.find(loser.tenantId)).toBeUndefined();
    expect(await expectAgreement(world, loser.tenantId)).toEqual([]);
    expect(await tenantsNow()).toBe(tenants + 1);
  });

  it('retries of one operation: one is made, both hear of it', async () => {
    const asked = await failedProvision(world);
    const both = await Promise.all([
      startProvision(world, { ...asked, attempt: 2 }),
      startProvision(world, { ...asked, attempt: 2 }),
    ]);
    const [one, other] = await Promise.all(both.map(({ admission }) => admission));
    expect(one).toEqual(other);
    expect(one).toMatchObject({ generation: 2 });
    expect(await both[0].handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
  });
});

/**
 * An attempt that timed out may still be at work when the next one begins, on another worker. Here both are at the
 * same statement at the same time.
 */
describe('the same activity twice at once', () => {
  it('admits once, with one answer for both', async () => {
    const asked = await world.ask();
    const answers = await twins(world, () => world.activities.admitProvision({ ...asked, attempt: 1 }));
    expect(answers[0]).toMatchObject({ admitted: { generation: 1 } });
    expect(answers[1]).toEqual(answers[0]);
    expect(await tenantsNow()).toBe(tenants + 1);
  });

  it('admits once into the last place of a cell', async () => {
    const setCapacity = (capacity: number) =>
      world.catalogue.pool.query('UPDATE cell SET capacity = $1 WHERE name = $2', [capacity, world.cell]);
    await setCapacity(tenants + 1);
    const asked = await world.ask();
    const answers = await twins(world, () => world.activities.admitProvision({ ...asked, attempt: 1 }));
    await setCapacity(10_000);
    expect(answers[0]).toMatchObject({ admitted: { generation: 1 } });
    expect(answers[1]).toEqual(answers[0]);
    expect(await tenantsNow()).toBe(tenants + 1);
  });

  it('admits a retry once, with one answer for both', async () => {
    const worker = await world.startWorker();
    const asked = await failedProvision(world);
    await worker.stop();
    const lock = { text: 'SELECT FROM tenant WHERE id = $1 FOR UPDATE', values: [asked.tenantId] };
    const answers = await whileLocked(world, lock, 2, () =>
      both(() => world.activities.admitProvision({ ...asked, attempt: 2 })),
    );
    expect(answers[0]).toMatchObject({ admitted: { generation: 2 } });
    expect(answers[1]).toEqual(answers[0]);
  });

  it.each(['provisionPostgres', 'provisionMongo', 'provisionRedis'] as const)(
    '%s makes everything once',
    async (activity) => {
      const { asked, fence } = await askAndAdmit(world);
      await both(() => world.activities[activity](fence));
      for (const other of ['provisionPostgres', 'provisionMongo', 'provisionRedis'] as const)
        await world.activities[other](fence);
      await both(() => world.activities.verifyTenant(fence));
      await world.activities.activateTenant(fence);
      await expectActive(world, asked);
    },
  );

  it('verifies, though the other removes meanwhile what it has written to read it', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const { mongo: client } = await world.dependencies.cells.get(world.cell);
    const probe = () => probeMongo(world.manifest, { tenantId: asked.tenantId, client }, undefined);
    const { replaceOne } = Collection.prototype;
    const overtaken = jest.spyOn(Collection.prototype, 'replaceOne').mockImplementationOnce(async function (
      this: Collection,
      ...written
    ) {
      const result = await replaceOne.apply(this, written);
      await probe();
      return result;
    });
    try {
      expect(await probe()).toMatchObject({ wroteAndRead: Object.keys(world.manifest.mongo.collections) });
    } finally {
      overtaken.mockRestore();
    }
  });

  it('activates once, and neither is told that it came too late', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    const lock = { text: 'SELECT FROM operation WHERE id = $1 FOR UPDATE', values: [asked.operationId] };
    await whileLocked(world, lock, 2, () => both(() => world.activities.activateTenant(fence)));
    await expectActive(world, asked);
  });

  it('undoes and closes once', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    for (const undo of ['undoRedis', 'undoMongo', 'undoPostgres'] as const)
      expect(await both(() => world.activities[undo](fence))).toEqual([{ residue: [] }, { residue: [] }]);
    const error = { code: 'CANCELLED', message: 'The operation was cancelled.' } as const;
    const closing = { ...fence, status: 'cancelled', error } as const;
    const closed = { status: 'cancelled', residue: [] };
    expect(await both(() => world.activities.closeOperation(closing))).toEqual([closed, closed]);
    await expectUndone(world, asked, { status: 'cancelled', code: 'CANCELLED' });
  });

  it('withdraws once, also while the admission is under way', async () => {
    const asked = await world.ask();
    // The admission has begun and stands before the row of its cell; the withdrawal finds nothing admitted yet.
    const lock = { text: 'SELECT FROM cell WHERE name = $1 FOR UPDATE', values: [world.cell] };
    const admission = await whileLocked(
      world,
      lock,
      1,
      () => world.activities.admitProvision({ ...asked, attempt: 1 }),
      () => both(() => world.activities.withdrawAdmission({ ...asked, attempt: 1 })),
    );
    expect(admission).toMatchObject({ refused: { code: 'ADMISSION_TIMEOUT' } });
    expect(await world.catalogue.operations.find(asked.operationId)).toBeUndefined();
    expect(await world.catalogue.tenants.find(asked.tenantId)).toBeUndefined();
    expect(await tenantsNow()).toBe(tenants);
  });
});

describe('a cell that several workers prepare at once', () => {
  it('has one canary, one set of tables, and no trace of the trials', async () => {
    const world = await createWorld({ prepare: false });
    const others = [1, 2, 3].map((number) => another(world, `other-${number}`));
    const prepared = await Promise.all(
      [world.dependencies, ...others.map(({ composition }) => composition.dependencies)].map(({ cells }) =>
        cells.get(world.cell),
      ),
    );
    expect(new Set(prepared.map(({ canary }) => canary?.tenantId)).size).toBe(1);
    await expectCanary(world);
    // Every one of them can work as the canary and for a tenant.
    for (const { canary } of prepared) await canary?.mongo.db().admin().ping();
    await world.startWorker();
    for (const { composition, catalogue } of others) {
      await composition.close();
      await catalogue.close();
    }
    const asked = await world.ask();
    const { handle } = await startProvision(world, asked);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
    await world.close();
  });
});

/** Which comes upon the other's row first is chance, so there are many. */
it('a canary that several workers write down at once is written once, with the same passwords for all', async () => {
  const world = await createWorld({ prepare: false });
  const { catalogue } = world;
  for (let round = 0; round < 50; round++) {
    const id = newTenantId();
    await withClient(world.url('control'), (client) =>
      client.query(
        `SET search_path = tenantry; DELETE FROM credential; DELETE FROM allocation; DELETE FROM tenant`,
      ),
    );
    const found = await Promise.all(
      [1, 2, 3, 4].map(() => catalogue.canaries.intend(world.cell, id, world.dependencies.blueprint)),
    );
    expect(found).toEqual(found.map(() => found[0]));
  }
  await world.close();
});

const both = <T>(run: () => Promise<T>): Promise<[T, T]> => Promise.all([run(), run()]);

/** Both stand before the row of the cell, which an admission takes first. */
const twins = <T>(world: World, run: () => Promise<T>): Promise<[T, T]> =>
  whileLocked(world, { text: 'SELECT FROM cell WHERE name = $1 FOR UPDATE', values: [world.cell] }, 2, () =>
    both(run),
  );

/** One that met a foreign thing, which is then taken away. */
async function failedProvision(world: World): Promise<Asked> {
  const asked = await world.ask();
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
  const { handle } = await startProvision(world, asked);
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
  await redis.del(redisMarkerKey(asked.tenantId));
  await expectNothingLeft(world, asked.tenantId);
  return asked;
}

/** What another worker process would have. */
function another(world: World, name: string) {
  const catalogue = openCatalogue({ url: world.url('control', 'catalogue'), name });
  const composition = compose({
    catalogue,
    manifest: world.manifest,
    rootKey: Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
    resolveSecret: (reference) => world.env[reference.replace(/^env:/, '')] ?? '',
    poolSize: 4,
    log: createLogger({ level: 'silent' }),
  });
  return { catalogue, composition };
}
