/** Operations whose run was ended by hand before its end: what comes in its place brings them to theirs. */
import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import { PROVISION_BATCH, PROVISION_TENANT } from '../../domain/contracts.js';
import type { OperationId, TenantId } from '../../domain/ids.js';
import { redisMarkerKey } from '../../domain/names.js';
import { batchWorkflowId, lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { expectAgreement } from '../support/agreement.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { expectNothingLeft, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { SHORT, startProvision } from '../support/provision.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

const TENANTS = 3;

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it.each([
  ['terminated and started again', startAgain],
  ['reset to its first task', reset],
] as const)('a batch that was %s undoes what had failed, and a retry makes it', async (_, replace) => {
  const holds = createHolds();
  const worker = await world.startWorker(holds.stepIn);
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  await world.activities.admitBatch({ operationId, attempt: 1 });
  const [, doomed] = await tenantsOf(operationId);
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(doomed), 'of somebody else');
  const hold = holds.at(`before begin verify 1-${TENANTS}`);
  const { handle } = await startBatch(world, operationId);
  await hold.reached;
  await until('it has failed', async () => (await statuses(operationId))[1] === 'failed');

  const next = await replace(operationId, handle, hold.release);
  await expect(next.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
  expect(await statuses(operationId)).toEqual(['succeeded', 'failed', 'succeeded']);
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({ status: 'failed', residue: [] });
  await redis.del(redisMarkerKey(doomed));
  await expectNothingLeft(world, doomed);

  await expectRetried(operationId);
  await worker.stop();
});

it('a batch that was cancelled, and terminated before its undo, is undone by the run in its place', async () => {
  const holds = createHolds();
  const worker = await world.startWorker(holds.stepIn);
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  const id = batchWorkflowId(operationId);
  const [making, undoing] = [holds.at('after createRole', id), holds.at('before batchUndo', id)];
  const started = startBatch(world, operationId);
  await making.reached;
  await world.temporal.workflow.getHandle(id).cancel();
  making.release();
  const { handle } = await started;
  await undoing.reached;

  const next = await startAgain(operationId, handle, undoing.release);
  await expect(next.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({
    status: 'cancelled',
    residue: [],
  });
  for (const tenant of await tenantsOf(operationId)) await expectNothingLeft(world, tenant);

  await expectRetried(operationId);
  await worker.stop();
});

it('a batch whose undo never came is closed with what is left, and a retry takes that up', async () => {
  const worker = await world.startWorker();
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  const { ordinals } = await world.activities.admitBatch({ operationId, attempt: 1 }).then(admitted);
  const fence = { operationId, attempt: 1, ordinals };
  const { handle } = await startBatch(world, operationId);
  await handle.result();
  await world.catalogue.pool.query(
    `WITH op AS (UPDATE operation SET status = 'running', finished_at = NULL WHERE id = $1),
          items AS (UPDATE batch_item SET status = 'failed' WHERE operation_id = $1 AND ordinal = 1 RETURNING tenant_id)
     UPDATE tenant SET state = 'provisioning' FROM items WHERE id = tenant_id`,
    [operationId],
  );
  await world.activities.closeBatch(fence);
  const [, left] = await tenantsOf(operationId);
  expect(await world.catalogue.tenants.find(left)).toMatchObject({ state: 'failed' });
  const { residue } = (await world.catalogue.operations.find(operationId)) ?? never();
  expect(residue.length).toBeGreaterThan(0);
  // As those were left that were closed before a closing did so.
  await world.catalogue.pool.query(`UPDATE tenant SET state = 'provisioning' WHERE id = $1`, [left]);
  await expectRetried(operationId);
  await worker.stop();
});

it('a batch that is closed before its chunks have ended says so of their tenants, and a retry takes them up', async () => {
  const worker = await world.startWorker();
  const operationId = await askForBatch(world, newSlugs(TENANTS));
  await world.activities.admitBatch({ operationId, attempt: 1 });
  await world.activities.closeBatch({ operationId, attempt: 1 });
  expect(await statuses(operationId)).toEqual(['cancelled', 'cancelled', 'cancelled']);
  for (const tenant of await tenantsOf(operationId))
    expect(await world.catalogue.tenants.find(tenant)).toMatchObject({ state: 'failed' });
  const { residue } = (await world.catalogue.operations.find(operationId)) ?? never();
  expect(residue.length).toBeGreaterThan(0);
  await expectRetried(operationId);
  await worker.stop();
});

it.each(['after begin undo-redis', 'after dropRole'])(
  'a provisioning that was terminated %s is undone, for the reason that it had',
  async (point) => {
    const holds = createHolds();
    const worker = await world.startWorker(holds.stepIn);
    const asked = await world.ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
    const hold = holds.at(point, lifecycleWorkflowId(asked.tenantId));
    const { handle } = await startProvision(world, asked);
    await hold.reached;
    await handle.terminate();
    hold.release();
    const next = await world.temporal.workflow.start(PROVISION_TENANT, {
      workflowId: lifecycleWorkflowId(asked.tenantId),
      taskQueue: world.taskQueue,
      args: [{ tenantId: asked.tenantId, operationId: asked.operationId, attempt: 1, patience: SHORT }],
    });
    await expect(next.result()).rejects.toMatchObject({ cause: { type: 'STALE_GENERATION' } });
    await redis.del(redisMarkerKey(asked.tenantId));
    await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
    await worker.stop();
  },
);

/** As the runbook has it. */
async function startAgain(
  operationId: OperationId,
  handle: WorkflowHandle,
  goOn: () => void,
): Promise<WorkflowHandle> {
  await handle.terminate();
  goOn();
  return world.temporal.workflow.start(PROVISION_BATCH, {
    workflowId: batchWorkflowId(operationId),
    taskQueue: world.taskQueue,
    args: [{ operationId, attempt: 1, patience: SHORT }],
  });
}

async function reset(
  operationId: OperationId,
  handle: WorkflowHandle,
  goOn: () => void,
): Promise<WorkflowHandle> {
  const workflowId = batchWorkflowId(operationId);
  const { runId } = await handle.describe();
  const { events } = await handle.fetchHistory();
  const first = events?.find((event) => event.workflowTaskCompletedEventAttributes)?.eventId ?? never();
  const { runId: next } = await world.temporal.workflowService.resetWorkflowExecution({
    namespace: 'default',
    workflowExecution: { workflowId, runId },
    reason: 'a test',
    workflowTaskFinishEventId: first,
    requestId: randomUUID(),
  });
  goOn();
  return world.temporal.workflow.getHandle(workflowId, next);
}

async function expectRetried(operationId: OperationId): Promise<void> {
  const { handle } = await startBatch(world, operationId, 2);
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  expect(new Set(await statuses(operationId))).toEqual(new Set(['succeeded']));
  for (const tenant of await tenantsOf(operationId)) {
    expect(await world.catalogue.tenants.find(tenant)).toMatchObject({ state: 'active' });
    await expectAgreement(world, tenant);
  }
}

const statuses = async (operationId: OperationId): Promise<string[]> =>
  (await world.catalogue.operations.batchItems(operationId)).map(({ status }) => status);

const tenantsOf = async (operationId: OperationId): Promise<[TenantId, TenantId, TenantId]> => {
  const items = await world.catalogue.operations.batchItems(operationId);
  return items.map(({ tenantId }) => tenantId ?? never()) as [TenantId, TenantId, TenantId];
};

const admitted = <T>(result: { admitted: T } | { refused: unknown }): T =>
  'admitted' in result ? result.admitted : never();

const never = (): never => {
  throw new Error('it is not there');
};
