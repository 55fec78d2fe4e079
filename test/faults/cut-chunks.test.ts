/** Chunks of a batch whose attempt is told to end: by a worker that shuts down, or as the batch is cancelled. */
import { once } from 'node:events';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { temporal } from '@temporalio/proto';
import { createActivities } from '../../activities/index.js';
import { batchWorkflowId } from '../../domain/workflow-ids.js';
import { expectAgreement } from '../support/agreement.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { createHolds, signal } from '../support/holds.js';
import { atPoints, steppingIn } from '../support/points.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

const TENANTS = 10;

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it.each(['after begin mongo 1-10', 'after createRole', 'after begin verify 1-10'])(
  'by a worker that shuts down, %s, are taken up by another',
  async (point) => {
    const reached = signal();
    let told = false;
    const untilTold = async (at: string): Promise<void> => {
      if (at !== point || told) return;
      told = true;
      reached.give();
      await once(Context.current().cancellationSignal, 'abort');
    };
    const first = await world.startWorker({ ...steppingIn(untilTold), shutdownGrace: 200 });
    const operationId = await askForBatch(world, newSlugs(TENANTS));
    const { handle } = await startBatch(world, operationId);
    await reached.given;
    await first.stop();
    const second = await world.startWorker();
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await second.stop();
    await expectAll(operationId, { status: 'succeeded', error: null });
  },
);

it('of a batch that is cancelled are undone as cancelled', async () => {
  const holds = createHolds();
  const worker = await world.startWorker(holds.stepIn);
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  // The first heartbeat comes after it, and with its answer the cancellation.
  const hold = holds.at(`after begin mongo 1-${TENANTS}`);
  const { handle } = await startBatch(world, operationId);
  await hold.reached;
  await cancel(operationId);
  hold.release();
  await expect(handle.result()).rejects.toThrow('cancelled');
  await worker.stop();
  await expectAll(operationId, { status: 'cancelled', error: { code: 'CANCELLED' } });
});

it('of a batch that is cancelled as a store goes away are undone as cancelled', async () => {
  const [atWork, goOn] = [signal(), signal()];
  const worker = await world.startWorker({
    activities: {
      ...world.activities,
      async batchMongo() {
        atWork.give();
        await goOn.given;
        throw ApplicationFailure.create({ type: 'STORE_UNAVAILABLE', details: [{ store: 'MongoDB' }] });
      },
    },
  });
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  const { handle } = await startBatch(world, operationId);
  await atWork.given;
  await cancel(operationId);
  goOn.give();
  await expect(handle.result()).rejects.toThrow('cancelled');
  await worker.stop();
  await expectAll(operationId, { status: 'cancelled', error: { code: 'CANCELLED' } });
});

describe('whose undo', () => {
  const refused = new Error('refused');
  const lost = Object.assign(new Error('connection lost'), { code: 'ECONNRESET' });

  /** A batch of two that cannot be verified, and of which Redis users are removed as `failures` say, in turn. */
  async function undone(failures: (Error | undefined)[]): Promise<Parameters<typeof startBatch>[1]> {
    const dependencies = atPoints(world.dependencies, (point) => {
      const failure = point === 'before DELUSER' ? failures.shift() : undefined;
      if (failure !== undefined) throw failure;
    });
    const batchVerify = (): never => {
      throw ApplicationFailure.nonRetryable('no', 'VERIFICATION_FAILED', {});
    };
    const worker = await world.startWorker({
      activities: { ...createActivities(dependencies), batchVerify },
    });
    const operationId = await askForBatch(world, newSlugs(2));
    const { handle } = await startBatch(world, operationId);
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    await worker.stop();
    return operationId;
  }
  /** The stores in which something of each tenant is left. */
  async function left(operationId: Parameters<typeof startBatch>[1]): Promise<string[][]> {
    const items = await world.catalogue.operations.batchItems(operationId);
    const tenants = items.flatMap(({ tenantId }) => tenantId ?? []);
    const found = await Promise.all(tenants.map((tenant) => expectAgreement(world, tenant)));
    return found.map((things) => [...new Set(things.map(({ store }) => store))]);
  }

  it('is refused for one and has to wait for another are undone when it can be', async () => {
    const operationId = await undone([refused, lost]);
    expect(await left(operationId)).toEqual([[], []]);
    expect(await world.catalogue.operations.find(operationId)).toMatchObject({ residue: [] });
  });

  it('is refused in one store are undone in the others', async () => {
    const operationId = await undone([refused, refused]);
    expect(await left(operationId)).toEqual([['redis'], ['redis']]);
    const worker = await world.startWorker();
    const { handle } = await startBatch(world, operationId, 2);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await worker.stop();
  });
});

/** Comes back when its chunk in MongoDB is asked to end. */
async function cancel(operationId: Parameters<typeof startBatch>[1]): Promise<void> {
  const handle = world.temporal.workflow.getHandle(batchWorkflowId(operationId));
  await handle.cancel();
  await until('the chunk is asked to end', async () => {
    const { raw } = await handle.describe();
    return raw.pendingActivities?.some(
      ({ activityType, state }) => activityType?.name === 'batchMongo' && state === CANCEL_REQUESTED,
    );
  });
}

const CANCEL_REQUESTED = temporal.api.enums.v1.PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED;

async function expectAll(operationId: Parameters<typeof startBatch>[1], expected: object): Promise<void> {
  const items = await world.catalogue.operations.batchItems(operationId);
  expect(items).toHaveLength(TENANTS);
  for (const item of items) expect(item).toMatchObject(expected);
}
