/** A workflow that somebody cancels from outside, by Temporal's page or command line, at each stage. */
import { CancelledFailure } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { ERRORS } from '../../domain/errors.js';
import { redisMarkerKey } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { expectActive, expectNeverWas, expectUndone } from '../support/expect.js';
import { createHolds, signal } from '../support/holds.js';
import { startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import type { Asked } from '../support/steps.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

const CANCELLED = { status: 'cancelled', code: 'CANCELLED' } as const;

describe('a provisioning that is cancelled', () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker(holds.stepIn);
  });
  afterAll(() => world.close());

  /** The run, cancelled while it stood at the point, and then let go on. */
  async function cancelledAt(point: string, known?: Asked): Promise<{ asked: Asked; handle: Handle }> {
    const asked = known ?? (await world.ask());
    const hold = holds.at(point, lifecycleWorkflowId(asked.tenantId));
    const starting = startProvision(world, asked);
    await hold.reached;
    await world.temporal.workflow.getHandle(lifecycleWorkflowId(asked.tenantId)).cancel();
    hold.release();
    const { handle } = await starting;
    return { asked, handle };
  }

  it('before a worker has seen it is withdrawn, and its slug is free', async () => {
    const asked = await world.ask();
    const taskQueue = `${world.taskQueue}-later`;
    const starting = startProvision(world, { ...asked, taskQueue });
    const handle = world.temporal.workflow.getHandle(lifecycleWorkflowId(asked.tenantId));
    await until('the run is there', () => handle.describe().catch(() => undefined));
    await handle.cancel();
    await world.startWorker({ taskQueue });
    const { admission } = await starting;
    await expect(admission).rejects.toMatchObject({ cause: { type: 'ADMISSION_TIMEOUT' } });
    expect(await handle.result()).toEqual({ status: 'withdrawn' });
    await expectNeverWas(world, asked);
    await expectSlugIsFree(world, asked);
  });

  it.each(['before admitProvision', 'before admit', 'after admit', 'after admitProvision'])(
    'during its admission, %s, leaves nothing in any store',
    async (point) => {
      const { asked, handle } = await cancelledAt(point);
      // The admission was under way and is waited for; what it admitted is undone.
      await expectCancelled(handle);
      await expectUndone(world, asked, CANCELLED);
      await expectRetried(world, asked);
    },
  );

  it.each([
    'before begin postgres',
    'after begin mongo',
    'after createRole',
    'after SET',
    'before finish redis',
    'after finish mongo',
    'before begin verify',
    'before finish verify',
  ])('%s is undone everywhere, and can be retried', async (point) => {
    const { asked, handle } = await cancelledAt(point);
    await expectCancelled(handle);
    await expectUndone(world, asked, CANCELLED);
    await expectRetried(world, asked);
  });

  it.each(['before activate', 'after activate'])(
    'after its verification, %s, has come too late: the tenant is active',
    async (point) => {
      const { asked, handle } = await cancelledAt(point);
      expect(await handle.result()).toEqual({ status: 'succeeded' });
      await expectActive(world, asked);
    },
  );

  it('while it waits for a store that is away ends at once', async () => {
    const { redis } = await world.dependencies.cells.get(world.cell);
    const nowhere = redis.duplicate({ port: 1, retryStrategy: () => null, lazyConnect: true });
    nowhere.on('error', () => undefined);
    const asked = await world.ask();
    let gone = true;
    const taskQueue = `${world.taskQueue}-away`;
    await world.startWorker({
      taskQueue,
      around: (dependencies) => ({
        ...dependencies,
        cells: {
          ...dependencies.cells,
          get: async (name) => {
            const cell = await dependencies.cells.get(name);
            return gone ? { ...cell, redis: nowhere } : cell;
          },
        },
      }),
    });
    const { handle } = await startProvision(world, { ...asked, taskQueue });
    await until('the outage is recorded', async () => {
      const steps = await stepsOf(world, asked.operationId);
      return steps.some((step) => step.name === 'redis' && step.lastError?.code === 'STORE_UNAVAILABLE');
    });
    gone = false;
    await handle.cancel();
    await expectCancelled(handle);
    await expectUndone(world, asked, CANCELLED);
  });

  it.each([
    ['an outage', 'STORE_UNAVAILABLE', CANCELLED],
    ['what is for good', 'NAME_TAKEN', { status: 'failed', code: 'NAME_TAKEN' }],
  ] as const)('as an attempt meets %s is undone, for the reason that counts', async (_of, type, expected) => {
    const asked = await world.ask();
    const taskQueue = `${world.taskQueue}-${type}`;
    const [atWork, goOn] = [signal(), signal()];
    await world.startWorker({
      taskQueue,
      activities: {
        ...world.activities,
        async provisionMongo() {
          atWork.give();
          await goOn.given;
          throw ApplicationFailure.create({ type, nonRetryable: !ERRORS[type].retryable });
        },
      },
    });
    const { handle } = await startProvision(world, { ...asked, taskQueue });
    await atWork.given;
    await handle.cancel();
    await until('the attempt is to end', async () => {
      const { events } = await handle.fetchHistory();
      return events?.some((event) => event.activityTaskCancelRequestedEventAttributes);
    });
    goOn.give();
    await expect(handle.result()).rejects.toThrow();
    await expectUndone(world, asked, expected);
  });

  it.each(['before begin undo-redis', 'after dropRole', 'before close', 'after close'])(
    'while it is being undone, %s, is undone all the same, for the reason that it had',
    async (point) => {
      const asked = await world.ask();
      const { redis } = await world.dependencies.cells.get(world.cell);
      await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
      const { handle } = await cancelledAt(point, asked);
      await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
      await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
      expect(await redis.getdel(redisMarkerKey(asked.tenantId))).toBe('of somebody else');
    },
  );

  it('twice is cancelled once', async () => {
    const asked = await world.ask();
    const id = lifecycleWorkflowId(asked.tenantId);
    const [forward, backward] = [holds.at('after begin mongo', id), holds.at('after dropRole', id)];
    const { handle } = await startProvision(world, asked);
    await forward.reached;
    await handle.cancel();
    forward.release();
    await backward.reached;
    await handle.cancel();
    backward.release();
    await expectCancelled(handle);
    await expectUndone(world, asked, CANCELLED);
  });
});

type Handle = Awaited<ReturnType<typeof startProvision>>['handle'];

async function expectCancelled(handle: Handle): Promise<void> {
  const error: unknown = await handle.result().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ name: 'WorkflowFailedError' });
  expect((error as Error).cause).toBeInstanceOf(CancelledFailure);
}

async function expectRetried(world: World, asked: Asked): Promise<void> {
  const { handle } = await startProvision(world, { ...asked, attempt: 2 });
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
}

async function expectSlugIsFree(world: World, { slug }: Asked): Promise<void> {
  const again = await world.ask({ slug });
  const { handle } = await startProvision(world, again);
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, again);
}
