/** Undos that a slow store keeps at work, more of them than the catalogue has connections for statements. */
import { once } from 'node:events';
import { Context } from '@temporalio/activity';
import { openCatalogue, UNDOS_AT_ONCE } from '../../catalogue/index.js';
import type { Fence } from '../../domain/contracts.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { expectActive, expectUndone } from '../support/expect.js';
import { signal } from '../support/holds.js';
import { steppingIn } from '../support/points.js';
import { startProvision } from '../support/provision.js';
import { askAndAdmit, close, CLOSED, makeActive, undoAndClose } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';
import { startApi } from '../api/support/api.js';
import { stuckAt } from './support/zombie.js';

let world: World;
let catalogue: ReturnType<typeof openCatalogue>;
beforeAll(async () => {
  world = await createWorld();
  catalogue = openCatalogue({ url: world.url('control', 'catalogue'), name: 'test-long-undos', max: 1 });
});
afterAll(async () => {
  await catalogue.close();
  await world.close();
});

test('keep no other tenant waiting', async () => {
  const [doomed, other] = [await askAndAdmit(world), await askAndAdmit(world)];
  const undoing = await undosAtWork(doomed.fence, catalogue);
  expect(await catalogue.steps.begin(other.fence, 'postgres')).toMatchObject({ attempts: 1 });
  expect(await undoing.end()).toMatchObject([{ residue: [] }]);
});

test('keep no overtaken step from taking back what it makes', async () => {
  const [{ asked, fence }, other] = [await askAndAdmit(world), await askAndAdmit(world)];
  const zombie = await stuckAt(world, 'after begin mongo', ({ provisionMongo }) => provisionMongo(fence));
  await undoAndClose(world, fence);
  const undoing = await undosAtWork(other.fence, world.catalogue, UNDOS_AT_ONCE);
  zombie.release();
  expect(await zombie.result).toMatchObject({ type: 'STALE_GENERATION' });
  await expectUndone(world, asked, CLOSED);
  await undoing.end();
});

describe('a retry of what is still being undone', () => {
  const refused = { code: 'UNDO_RUNNING', retryable: true };

  test('holds no connection meanwhile, and is admitted when that has ended', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const undoing = await undosAtWork(fence);
    await close(world, fence);
    const retry = () =>
      catalogue.admission.admitProvision(fence.operationId, 2, world.dependencies.blueprint);
    await expect(retry()).rejects.toMatchObject(refused);
    expect(await statusOf(fence)).toMatchObject({ status: 'failed', attempt: 1 });
    await undoing.end();
    await makeActive(world, asked, 2);
    await expectActive(world, asked);
  });

  test('of a batch neither', async () => {
    const fence = await admittedBatch();
    const undoing = await batchUndoAtWork(fence);
    await world.activities.closeBatch(fence);
    const retry = () => catalogue.batches.admit(fence.operationId, 2, world.dependencies.blueprint);
    await expect(retry()).rejects.toMatchObject(refused);
    expect(await statusOf(fence)).toMatchObject({ status: 'failed', attempt: 1 });
    await undoing.end();
    expect(await retry()).toMatchObject({ admitted: { ordinals: [0] } });
  });

  describe('as a run', () => {
    let asked = 0;
    let again = signal();
    let secondAttempt = async (): Promise<void> => undefined;
    beforeAll(() =>
      world.startWorker(
        steppingIn(async (point) => {
          if (!/^before admit(Provision|Batch)$/.test(point) || ++asked !== 2) return;
          again.give();
          await secondAttempt();
        }),
      ),
    );
    beforeEach(() => {
      asked = 0;
      again = signal();
      secondAttempt = async () => undefined;
    });

    test('goes on when that has ended', async () => {
      const { asked: retried, fence } = await askAndAdmit(world);
      const undoing = await undosAtWork(fence);
      await close(world, fence);
      const started = startProvision(world, { ...retried, attempt: 2 });
      await again.given;
      await undoing.end();
      expect(await (await started).handle.result()).toEqual({ status: 'succeeded' });
      await expectActive(world, retried);
    });

    test('is withdrawn when its caller waits no longer', async () => {
      const { asked: retried, fence } = await askAndAdmit(world);
      const undoing = await undosAtWork(fence);
      await close(world, fence);
      const api = await startApi(world, { admissionTimeout: 1_000 });
      const path = `/v1/operations/${fence.operationId}:retry`;
      expect(await api.send(path, { method: 'POST' })).toMatchObject({
        status: 503,
        json: { code: 'ADMISSION_TIMEOUT' },
      });
      await api.close();
      const run = world.temporal.workflow.getHandle(lifecycleWorkflowId(retried.tenantId));
      expect(await run.result()).toEqual({ status: 'withdrawn' });
      expect(await statusOf(fence)).toMatchObject({ status: 'failed', attempt: 2 });
      await undoing.end();
    });

    test('is withdrawn when it is cancelled in the midst of an attempt', async () => {
      const { asked: retried, fence } = await askAndAdmit(world);
      const undoing = await undosAtWork(fence);
      await close(world, fence);
      secondAttempt = async () => {
        await once(Context.current().cancellationSignal, 'abort');
      };
      // A run hears of it with the next heartbeat of its workflow task, at four fifths of this.
      const workflowTaskTimeout = '2 seconds';
      const starting = startProvision(world, { ...retried, attempt: 2, workflowTaskTimeout });
      await again.given;
      await world.temporal.workflow.getHandle(lifecycleWorkflowId(retried.tenantId)).cancel();
      const { handle } = await starting;
      expect(await handle.result()).toEqual({ status: 'withdrawn' });
      expect(asked).toBe(2);
      await undoing.end();
    });

    test('of a batch goes on likewise', async () => {
      const fence = await admittedBatch();
      const undoing = await batchUndoAtWork(fence);
      await world.activities.closeBatch(fence);
      const started = startBatch(world, fence.operationId, 2);
      await again.given;
      await undoing.end();
      expect(await (await started).handle.result()).toEqual({ status: 'succeeded' });
    });
  });
});

test('of a batch find their own tenants', async () => {
  const operationId = await askForBatch(world, newSlugs(1));
  await world.activities.admitBatch({ operationId, attempt: 1 });
  const fence = { operationId, attempt: 1, ordinals: [0] };
  const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
  await catalogue.batches.fail(fence, 'failed', error);
  let found = 0;
  await catalogue.batches.undo(fence, async () => {
    found = (await catalogue.batches.toUndo(fence)).length;
  });
  expect(found).toBe(1);
});

const statusOf = ({ operationId }: Pick<Fence, 'operationId'>) =>
  world.catalogue.operations.find(operationId);

/** Undos of a tenant which a slow store keeps at work, by themselves until they are ended. */
async function undosAtWork(fence: Fence, of = world.catalogue, count = 1) {
  const store = signal();
  const all = signal();
  let begun = 0;
  const undoing = Array.from({ length: count }, () =>
    of.steps.undo(fence, 'undo-mongo', ['mongo'], async () => {
      if (++begun === count) all.give();
      await store.given;
      return { evidence: null, residue: [] };
    }),
  );
  await Promise.race([all.given, Promise.all(undoing)]);
  return {
    /** What each gives. */
    end() {
      store.give();
      return Promise.all(undoing);
    },
  };
}

async function admittedBatch() {
  const operationId = await askForBatch(world, newSlugs(1));
  const fence = { operationId, attempt: 1, ordinals: [0] };
  await world.activities.admitBatch(fence);
  const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
  await world.activities.batchFail({ ...fence, status: 'failed', error });
  return fence;
}

async function batchUndoAtWork(fence: Awaited<ReturnType<typeof admittedBatch>>) {
  const store = signal();
  const begun = signal();
  const undoing = world.catalogue.batches.undo(fence, async () => {
    const doomed = await world.catalogue.batches.toUndo(fence);
    begun.give();
    await store.given;
    await world.catalogue.batches.undone(fence, doomed, true);
  });
  await begun.given;
  // It was given up.
  await world.activities.batchAbandon(fence);
  return {
    async end(): Promise<void> {
      store.give();
      await undoing;
    },
  };
}
