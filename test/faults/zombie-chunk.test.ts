/** As `zombie`, for the steps of a batch: an attempt at a chunk goes on after everybody has given it up. */
import { MockActivityEnvironment } from '@temporalio/testing';
import { MongoNetworkError, MongoServerError } from 'mongodb';
import { withClient } from '../../catalogue/bootstrap.js';
import type { Activities, BatchFence } from '../../domain/contracts.js';
import type { OperationId, TenantId } from '../../domain/ids.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { expectAgreement, expectResidue } from '../support/agreement.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { expectNothingLeft } from '../support/expect.js';
import { untilWaiting, whileLocked } from '../support/locks.js';
import { createHolds } from '../support/holds.js';
import { steppingIn } from '../support/points.js';
import { stepsOf } from '../support/recorded.js';
import { createWorld, type World } from '../support/world.js';
import { type Cut, stuckAt, type Zombie } from './support/zombie.js';

type Chunk = 'batchPostgres' | 'batchMongo' | 'batchRedis' | 'batchUndo';

/** Where the attempt stands: nothing of its effect is made yet, all of it but not recorded. */
const PLACES = [
  ['batchPostgres', 'after begin postgres 1-2'],
  ['batchPostgres', 'before finish postgres 1-2'],
  ['batchMongo', 'after begin mongo 1-2'],
  ['batchMongo', 'before finish mongo 1-2'],
  ['batchRedis', 'after begin redis 1-2'],
  ['batchRedis', 'before finish redis 1-2'],
] as const;

const AWAY = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

describe('a step of a chunk that goes on after it was given up', () => {
  it.each(PLACES)('%s, %s: when its tenants were undone, it leaves nothing', async (step, point) => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck(step, point, fence);
    await undo(fence);
    zombie.release();
    await zombie.result;
    for (const tenant of tenants) await expectNothingLeft(world, tenant);
    await world.activities.closeBatch(fence);
  });

  it.each(PLACES)('%s, %s: when its batch is over, it leaves nothing', async (step, point) => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck(step, point, fence);
    await undo(fence);
    await world.activities.closeBatch(fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ nonRetryable: true });
    for (const tenant of tenants) await expectNothingLeft(world, tenant);
  });

  it.each(PLACES)('%s, %s: what a retry has made is left alone', async (step, point) => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck(step, point, fence);
    await undo(fence);
    await world.activities.closeBatch(fence);
    const retried = { ...fence, attempt: 2 };
    await world.activities.admitBatch(retried);
    await make(retried);
    zombie.release();
    expect(await zombie.result).toMatchObject({ nonRetryable: true });
    await proveAndActivate(retried);
    await expectActive(retried, tenants);
  });

  it.each(PLACES)(
    '%s, %s: what it made while a retry was on its way is residue when that is withdrawn',
    async (step, point) => {
      const { fence, tenants } = await askAndAdmit();
      const zombie = await stuck(step, point, fence);
      await undo(fence);
      await world.activities.closeBatch(fence);
      await world.activities.admitBatch({ ...fence, attempt: 2 });
      zombie.release();
      expect(await zombie.result).toMatchObject({ nonRetryable: true });
      await world.activities.withdrawBatch({ ...fence, attempt: 2 });
      for (const tenant of tenants) {
        const found = await expectAgreement(world, tenant);
        await expectResidue(world, fence.operationId, found);
      }
    },
  );

  it.each(PLACES)('%s, %s: what was verified meanwhile stays so', async (step, point) => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck(step, point, fence);
    await make(fence);
    await chunk(world.activities, 'batchVerify', { ...fence, sample: 1 });
    zombie.release();
    expect(await zombie.result).toEqual({ failed: 0 });
    await world.activities.batchActivate(fence);
    await expectActive(fence, tenants);
  });

  it('begun again after all was proved, it is no step of a finished batch that still runs', async () => {
    const { fence, tenants } = await askAndAdmit();
    await make(fence);
    await proveAndActivate(fence);
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence);
    // Nor does a run in the place of one that was reset take away what was seen.
    const seen = await evidenceOf(fence);
    await chunk(world.activities, 'batchVerify', { ...fence, sample: 1 });
    expect(await evidenceOf(fence)).toEqual(seen);
    await expectActive(fence, tenants);
    zombie.release();
    await zombie.result;
    await expectActive(fence, tenants);
  });

  it('takes back half an effect when the other half fails', async () => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, { at: 'before createUser' });
    await undo(fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ type: 'STORE_UNAVAILABLE' });
    for (const tenant of tenants) await expectNothingLeft(world, tenant);
    await world.activities.closeBatch(fence);
  });

  it('says nothing any more of a step that another attempt has done', async () => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, { at: 'before createUser' });
    await make(fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ type: 'STORE_UNAVAILABLE' });
    await proveAndActivate(fence);
    await expectActive(fence, tenants);
  });

  it('fails no tenant for which another attempt has done the step', async () => {
    const { fence, tenants } = await askAndAdmit();
    const refused = new MongoServerError({ message: 'not authorized', code: 13 });
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, {
      at: 'before createUser',
      by: refused,
    });
    await make(fence);
    zombie.release();
    await zombie.result;
    await proveAndActivate(fence);
    await expectActive(fence, tenants);
  });

  it('says of a tenant that it made something before that is undone, or not at all', async () => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck('batchMongo', 'before finish mongo 1-2', fence);
    const ledger = {
      text: `SELECT FROM allocation WHERE tenant_id = ANY ($1) AND store = 'mongo' FOR UPDATE`,
      values: [tenants],
    };
    let undoing: Promise<Zombie> | undefined;
    await whileLocked(
      world,
      ledger,
      1,
      () => released(zombie),
      async () => {
        undoing = world.activities
          .batchFail({ ...fence, status: 'failed', error: AWAY })
          .then(() => stuck('batchUndo', 'before undone', fence));
        await Promise.race([undoing, untilWaitFor(2)]);
      },
    );
    const undone = await undoing;
    undone?.release();
    await undone?.result;
    for (const tenant of tenants) await expectNothingLeft(world, tenant);
    await world.activities.closeBatch(fence);
  });

  describe('while its batch is being closed', () => {
    it('what it could not make is in what the batch says', async () => {
      const { fence, tenants } = await askAndAdmit();
      const refused = new MongoServerError({ message: 'not authorized', code: 13 });
      const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, {
        at: 'before createUser',
        by: refused,
      });
      const closed = await closedBehind(zombie, fence);
      expect(closed).toEqual({ status: 'failed', failed: 2, total: 2 });
      for (const tenant of tenants)
        await expectResidue(world, fence.operationId, await expectAgreement(world, tenant));
    });

    it('what it made is in the ledger before', async () => {
      const { fence, tenants } = await askAndAdmit();
      const zombie = await stuck('batchMongo', 'before finish mongo 1-2', fence);
      await closedBehind(zombie, fence);
      expect(await zombie.result).toEqual({ failed: 0 });
      for (const tenant of tenants) await expectAgreement(world, tenant);
      await expectNoStepRuns(fence);
    });

    it('begun meanwhile, it is no step that still runs', async () => {
      const { fence } = await askAndAdmit();
      await make(fence);
      let closing: Promise<unknown> | undefined;
      await whileLocked(
        world,
        stepRow(fence),
        1,
        () => world.catalogue.batches.begin(fence, 'mongo 1-2'),
        async () => {
          closing = world.activities.closeBatch(fence);
          await Promise.race([closing, untilWaitFor(2)]);
        },
      );
      await closing;
      await expectNoStepRuns(fence);
    });

    /** What it is closed with when the step has begun to say what it did, and is not through with it. */
    const closedBehind = async (zombie: Zombie, fence: BatchFence): Promise<unknown> => {
      let closing: Promise<unknown> | undefined;
      await whileLocked(
        world,
        stepRow(fence),
        1,
        () => released(zombie),
        async () => {
          closing = world.activities.closeBatch(fence);
          await untilWaitFor(2);
        },
      );
      return closing;
    };

    const expectNoStepRuns = async ({ operationId }: BatchFence): Promise<void> => {
      const steps = await stepsOf(world, operationId);
      expect(steps.filter(({ status }) => status === 'running')).toEqual([]);
    };
  });

  const stepRow = ({ operationId }: BatchFence) => ({
    text: `SELECT FROM operation_step WHERE operation_id = $1 AND name = 'mongo 1-2' FOR UPDATE`,
    values: [operationId],
  });
  const released = (zombie: Zombie): Promise<unknown> => {
    zombie.release();
    return zombie.result;
  };
  const untilWaitFor = (count: number) =>
    withClient(world.url('control'), (client) => untilWaiting(client, count));

  it('an undo that was given up and comes to its end takes its residue off the operation', async () => {
    const { fence, tenants } = await askAndAdmit();
    await make(fence);
    await world.activities.batchFail({ ...fence, status: 'failed', error: AWAY });
    const zombie = await stuck('batchUndo', 'before dropRole', fence);
    await world.activities.batchAbandon(fence);
    await world.activities.closeBatch(fence);
    expect((await world.catalogue.operations.find(fence.operationId))?.residue).not.toEqual([]);
    zombie.release();
    await zombie.result;
    for (const tenant of tenants) await expectNothingLeft(world, tenant);
    expect(await world.catalogue.operations.find(fence.operationId)).toMatchObject({
      status: 'failed',
      residue: [],
    });
  });

  it('an undo under way does not call gone what it could not take back', async () => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, { at: 'before dropRole' });
    await world.activities.batchFail({ ...fence, status: 'failed', error: AWAY });
    // It has seen that nothing is there, and has not yet said so.
    const undoing = await stuck('batchUndo', 'before undone', fence);
    zombie.release();
    await zombie.result;
    undoing.release();
    await undoing.result;
    for (const tenant of tenants) await expectAgreement(world, tenant);
    await world.activities.closeBatch(fence);
  });

  it('writes into the ledger what it could not take back, and into the operation that is over', async () => {
    const { fence, tenants } = await askAndAdmit();
    const zombie = await stuck('batchMongo', 'after begin mongo 1-2', fence, { at: 'before dropRole' });
    await undo(fence);
    await world.activities.closeBatch(fence);
    zombie.release();
    await zombie.result;
    for (const tenant of tenants) {
      const found = await expectAgreement(world, tenant);
      expect(new Set(found.map(({ store }) => store))).toEqual(new Set(['mongo']));
      await expectResidue(world, fence.operationId, found);
    }
  });
});

describe('a chunk whose answer was lost', () => {
  it('has its failed tenant undone all the same, and a retry takes it up', async () => {
    const holds = createHolds();
    const hold = holds.at('before begin mongo 1-2');
    let lost = false;
    const worker = await world.startWorker(
      steppingIn(async (point, workflowId) => {
        await holds.reach(point, workflowId);
        if (point !== 'after finish mongo 1-2' || lost) return;
        lost = true;
        throw new MongoNetworkError('connection 7 to the server closed');
      }),
    );
    const operationId = await askForBatch(world, newSlugs(2));
    const { handle } = await startBatch(world, operationId);
    await hold.reached;
    const [tenant] = await tenantsOf(operationId);
    if (tenant === undefined) throw new Error('no tenant');
    const { mongo } = await world.dependencies.cells.get(world.cell);
    const [layout] = world.dependencies.layouts;
    const foreign = mongo.db(mongoDatabaseName(tenant)).collection(layout?.name ?? '');
    await foreign.insertOne({ of: 'somebody else' });
    hold.release();
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    await foreign.drop();
    await expectNothingLeft(world, tenant);
    const retried = await startBatch(world, operationId, 2);
    expect(await retried.handle.result()).toEqual({ status: 'succeeded' });
    await worker.stop();
  });
});

const tenantsOf = async (operationId: OperationId): Promise<TenantId[]> =>
  (await world.catalogue.operations.batchItems(operationId)).flatMap(({ tenantId }) =>
    tenantId === null ? [] : [tenantId],
  );

async function askAndAdmit(): Promise<{ fence: BatchFence; tenants: TenantId[] }> {
  const operationId: OperationId = await askForBatch(world, newSlugs(2));
  const result = await world.activities.admitBatch({ operationId, attempt: 1 });
  if (!('admitted' in result)) throw new Error(`not admitted: ${result.refused.code}`);
  return {
    fence: { operationId, attempt: 1, ordinals: result.admitted.ordinals },
    tenants: await tenantsOf(operationId),
  };
}

/** An activity that beats, outside a worker. */
const chunk = <Step extends Chunk | 'batchVerify'>(
  activities: Activities,
  step: Step,
  fence: Parameters<Activities[Step]>[0],
): Promise<unknown> =>
  new MockActivityEnvironment().run(activities[step] as (asked: typeof fence) => Promise<unknown>, fence);

async function make(fence: BatchFence): Promise<void> {
  for (const step of ['batchPostgres', 'batchMongo', 'batchRedis'] as const)
    await chunk(world.activities, step, fence);
}

async function proveAndActivate(fence: BatchFence): Promise<void> {
  await chunk(world.activities, 'batchVerify', { ...fence, sample: 1 });
  await world.activities.batchActivate(fence);
}

const evidenceOf = async ({ operationId }: BatchFence): Promise<unknown[]> =>
  (await stepsOf(world, operationId)).map(({ evidence }) => evidence);

async function undo(fence: BatchFence): Promise<void> {
  await world.activities.batchFail({ ...fence, status: 'failed', error: AWAY });
  await chunk(world.activities, 'batchUndo', fence);
}

/** The step, standing at the point. */
const stuck = (step: Chunk, point: string, fence: BatchFence, cut?: Cut): Promise<Zombie> =>
  stuckAt(world, point, (activities) => chunk(activities, step, fence), cut);

async function expectActive(fence: BatchFence, tenants: readonly TenantId[]): Promise<void> {
  const total = tenants.length;
  expect(await world.activities.closeBatch(fence)).toEqual({ status: 'succeeded', failed: 0, total });
  const steps = await stepsOf(world, fence.operationId);
  expect(steps.filter((step) => step.status !== 'succeeded')).toEqual([]);
  for (const tenant of tenants) {
    expect(await world.catalogue.tenants.find(tenant)).toMatchObject({ state: 'active' });
    const ledger = await world.catalogue.tenants.allocations(tenant);
    expect(new Set(ledger.map(({ state }) => state))).toEqual(new Set(['verified']));
    expect(await expectAgreement(world, tenant)).toHaveLength(ledger.length);
  }
}
