/** No worker is there for longer than a step may take: it was tried by nobody, and nothing has failed. */
import type { WorkflowHandle } from '@temporalio/client';
import type { Patience } from '../../domain/contracts.js';
import { redisMarkerKey } from '../../domain/names.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { expectActive, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { SHORT, startProvision } from '../support/provision.js';
import { until } from '../support/until.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';

/** Shorter than no worker is there, and longer than a step takes on a machine with other work. */
const HASTY: Patience = { ...SHORT, step: 3_000, undo: 3_000 };

let world: World;
const workers: RunningWorker[] = [];
beforeAll(async () => {
  world = await createWorld();
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop();
});
afterAll(() => world.close());

async function startWorker(options: Parameters<World['startWorker']>[0] = {}): Promise<RunningWorker> {
  const worker = await world.startWorker(options);
  workers.push(worker);
  return worker;
}

it('a tenant that was admitted is made when one comes', async () => {
  const first = await startWorker({ catalogueOnly: true });
  const asked = await world.ask();
  const { admission, handle } = await startProvision(world, { ...asked, patience: HASTY });
  await admission;
  await first.stop();
  await untilTimedOut(handle, 3);
  await startWorker();
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
});

it('a batch that was admitted is made when one comes', async () => {
  const first = await startWorker({ catalogueOnly: true });
  const operationId = await askForBatch(world, newSlugs(2));
  const { handle } = await startBatch(world, operationId, 1, 10, HASTY);
  await first.stop();
  await untilTimedOut(handle, 3);
  await startWorker();
  expect(await handle.result()).toEqual({ status: 'succeeded' });
});

it('what failed is undone when one comes', async () => {
  const holds = createHolds();
  const asked = await world.ask();
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
  const failing = await startWorker(holds.stepIn);
  const hold = holds.at('before finish mongo');
  const { handle } = await startProvision(world, { ...asked, patience: { ...HASTY, step: 20_000 } });
  await hold.reached;
  const undoing = failing.stop();
  hold.release();
  await undoing;
  const first = await startWorker({ catalogueOnly: true });
  await untilTimedOut(handle, 1);
  await first.stop();
  await redis.del(redisMarkerKey(asked.tenantId));
  await startWorker();
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
  await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
});

const untilTimedOut = (handle: WorkflowHandle, count: number): Promise<true> =>
  until('its steps have timed out', async () => {
    const { events } = await handle.fetchHistory();
    return (events ?? []).filter((event) => event.activityTaskTimedOutEventAttributes).length >= count;
  });
