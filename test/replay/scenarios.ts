/** One run for each shape that a history can have. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import { MongoNetworkError } from 'mongodb';
import { FINISH, ISOLATION_PROBE } from '../../domain/contracts.js';
import { newOperationId } from '../../domain/ids.js';
import { redisKeyPrefix, redisMarkerKey, redisUserName } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { canaryId } from '../../tenancy/canary.js';
import { askForBatch, startBatch } from '../support/batch.js';
import { createHolds } from '../support/holds.js';
import { steppingIn } from '../support/points.js';
import { SHORT, startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import type { Asked } from '../support/steps.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

/** What the requests of recorded runs are made of: must be in no history. */
export const SLUG = 'recorded-slug';
export const NAME = 'Recorded Name';

/** Milliseconds after which an admission is late (activities/lifecycle.ts), and some. */
const LATE = 1_100;

type Scenario = (stage: Stage) => Promise<WorkflowHandle>;

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  succeeded: async ({ world }) => (await started(world, await ask(world))).handle,

  'succeeded-where-foreseen': async ({ world }) => {
    const foreseen = { cell: world.cell, plan: 'team' };
    return (await startProvision(world, { ...(await ask(world)), foreseen })).handle;
  },

  'succeeded-while-its-end-was-waited-for': async ({ world }) =>
    (await startProvision(world, { ...(await ask(world)), update: FINISH })).handle,

  'cancelled-while-its-end-was-waited-for': async (stage) =>
    cancelledAt(stage, 'after createRole', { update: FINISH }),

  'failed-and-undone': async ({ world }) => (await failed(world)).handle,

  'retried-and-succeeded': async ({ world }) => {
    const { asked } = await failed(world);
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.del(redisMarkerKey(asked.tenantId));
    return (await started(world, asked, 2)).handle;
  },

  'failed-with-residue': async ({ world, breaking }) => {
    const asked = await ask(world);
    breaking.add(lifecycleWorkflowId(asked.tenantId));
    await takeName(world, asked);
    return (await started(world, asked)).handle;
  },

  'waited-for-a-store': async ({ world, breaking }) => {
    const asked = await ask(world);
    const id = lifecycleWorkflowId(asked.tenantId);
    breaking.add(id);
    const { handle } = await started(world, asked);
    await until('the outage is recorded', async () => {
      const steps = await stepsOf(world, asked.operationId);
      return steps.some((step) => step.lastError?.code === 'STORE_UNAVAILABLE');
    });
    breaking.delete(id);
    return handle;
  },

  'failed-as-no-attempt-ended': async ({ world, holds }) => {
    const asked = await ask(world);
    const hold = holds.at('before createRole', lifecycleWorkflowId(asked.tenantId));
    const patience = { ...SHORT, step: 1_500, attempt: 1_000 };
    const { handle } = await startProvision(world, { ...asked, patience });
    await handle.result().catch(() => undefined);
    hold.release();
    return handle;
  },

  'waited-for-a-worker': async ({ world }) => {
    const taskQueue = `${world.taskQueue}-${randomUUID()}`;
    const admitting = await world.startWorker({ taskQueue, catalogueOnly: true });
    const patience = { ...SHORT, step: 1_000 };
    const { admission, handle } = await startProvision(world, { ...(await ask(world)), taskQueue, patience });
    await admission;
    await admitting.stop();
    await until('its steps have timed out', async () => {
      const { events } = await handle.fetchHistory();
      return (events ?? []).filter((event) => event.activityTaskTimedOutEventAttributes).length === 3;
    });
    await world.startWorker({ taskQueue });
    return handle;
  },

  'cancelled-while-it-was-made': (stage) => cancelledAt(stage, 'after createRole'),
  'cancelled-while-it-was-probed': (stage) => cancelledAt(stage, 'before finish verify'),
  'cancelled-too-late': (stage) => cancelledAt(stage, 'before activate'),
  'cancelled-while-it-was-admitted': (stage) => cancelledAt(stage, 'after admit'),

  'cancelled-while-an-attempt-at-its-admission-hung': async ({ world, holds }) => {
    const asked = await ask(world);
    const id = lifecycleWorkflowId(asked.tenantId);
    const hold = holds.at('after admit', id);
    const starting = startProvision(world, { ...asked, workflowTaskTimeout: '1 second' });
    await hold.reached;
    const handle = world.temporal.workflow.getHandle(id);
    await handle.cancel();
    await until('the run has heard of it', async () => {
      const { events = [] } = await handle.fetchHistory();
      return (events ?? []).filter((event) => event.workflowTaskCompletedEventAttributes).length > 1;
    });
    hold.release();
    return (await starting).handle;
  },

  'cancelled-while-it-was-admitted-late': (stage) => cancelledAt(stage, 'after admit', {}, () => pause(LATE)),

  'cancelled-while-an-attempt-failed': async ({ world, holds, breaking }) => {
    const asked = await ask(world);
    const id = lifecycleWorkflowId(asked.tenantId);
    breaking.add(id);
    const hold = holds.at('before createRole', id);
    const { handle } = await started(world, asked);
    await hold.reached;
    await handle.cancel();
    await until('the attempt is to end', async () => {
      const { events } = await handle.fetchHistory();
      return events?.some((event) => event.activityTaskCancelRequestedEventAttributes);
    });
    hold.release();
    await until('it has failed', async () => {
      const steps = await stepsOf(world, asked.operationId);
      return steps.some((step) => step.lastError?.code === 'STORE_UNAVAILABLE');
    });
    breaking.delete(id);
    return handle;
  },

  withdrawn: async ({ world }) => {
    const asked = await ask(world);
    const taskQueue = `${world.taskQueue}-${randomUUID()}`;
    const starting = startProvision(world, { ...asked, taskQueue });
    const handle = world.temporal.workflow.getHandle(lifecycleWorkflowId(asked.tenantId));
    await until('the run is there', () => handle.describe().catch(() => undefined));
    await handle.cancel();
    await world.startWorker({ taskQueue });
    await starting;
    return handle;
  },

  'refused-slug-taken': async ({ world }) => {
    const first = await ask(world);
    await (await started(world, first)).handle.result();
    return (await started(world, await ask(world, first.slug))).handle;
  },

  'refused-unknown-cell': async ({ world }) =>
    (await started(world, await world.ask({ name: NAME, slug: newSlug(), cell: 'nowhere' }))).handle,

  'met-by-another-operation': async ({ world, holds }) => {
    const asked = await ask(world);
    const hold = holds.at('before begin mongo', lifecycleWorkflowId(asked.tenantId));
    const { handle } = await started(world, asked);
    await hold.reached;
    const second = await startProvision(world, { ...asked, operationId: newOperationId() });
    await second.admission.catch(() => undefined);
    hold.release();
    return handle;
  },

  'batch-succeeded': ({ world }) => batch(world, [newSlug(), newSlug(), newSlug()]),

  'batch-with-one-refused-and-one-failed': async ({ world, holds }) => {
    const [good, taken, bad] = [newSlug(), newSlug(), newSlug()];
    await (await started(world, await ask(world, taken))).handle.result();
    const hold = holds.at('before begin redis 1-3');
    const handle = await batch(world, [good, taken, bad]);
    await hold.reached;
    const operation = handle.workflowId.slice('tenant-batch/'.length);
    const { rows } = await world.catalogue.pool.query<Pick<Asked, 'tenantId'>>(
      'SELECT tenant_id AS "tenantId" FROM batch_item WHERE operation_id = $1 AND slug = $2',
      [operation, bad],
    );
    for (const row of rows) await takeName(world, row);
    hold.release();
    return handle;
  },

  'batch-cancelled': async ({ world, holds }) => {
    const hold = holds.at('before begin redis 1-2');
    const handle = await batch(world, [newSlug(), newSlug()]);
    await hold.reached;
    await handle.cancel();
    hold.release();
    return handle;
  },

  'probe-nobody-got-through': async (stage) => isolationProbe(stage),

  'probe-somebody-got-through': async (stage) => {
    const redis = (await stage.world.dependencies.cells.get(stage.world.cell)).redis;
    const canary = canaryId(stage.world.cell);
    await (await started(stage.world, await ask(stage.world))).handle.result();
    await redis.acl('SETUSER', redisUserName(canary), '~*');
    const handle = await isolationProbe(stage);
    await handle.result().catch(() => undefined);
    await redis.acl('SETUSER', redisUserName(canary), 'resetkeys', `~${redisKeyPrefix(canary)}*`);
    return handle;
  },

  'probe-cancelled': async (stage) => {
    const hold = stage.holds.at('before probeCell');
    const handle = await isolationProbe(stage);
    await hold.reached;
    await handle.cancel();
    hold.release();
    return handle;
  },
};

export interface Stage {
  readonly world: World;
  readonly holds: ReturnType<typeof createHolds>;
  /** Ids of runs for which MongoDB is away. */
  readonly breaking: Set<string>;
  close(): Promise<void>;
}

export async function createStage(): Promise<Stage> {
  const world = await createWorld();
  const holds = createHolds();
  const breaking = new Set<string>();
  const reach = async (point: string, workflowId = ''): Promise<void> => {
    await holds.reach(point, workflowId);
    if (breaking.has(workflowId) && /^before (create|dropRole)/.test(point))
      throw new MongoNetworkError('connection 1 to the server closed');
  };
  await world.startWorker(steppingIn(reach));
  return { world, holds, breaking, close: () => world.close() };
}

const newSlug = (): string => `${SLUG}-${randomUUID().slice(0, 8)}`;
const ask = (world: World, slug = newSlug()): Promise<Asked> => world.ask({ name: NAME, slug });

/** An undo that cannot succeed gives up soon. */
async function started(world: World, asked: Asked, attempt = 1) {
  const patience = { ...SHORT, undo: 2_000 };
  const run = await startProvision(world, { ...asked, attempt, patience });
  await run.admission.catch(() => undefined);
  return run;
}

async function takeName(world: World, { tenantId }: Pick<Asked, 'tenantId'>): Promise<void> {
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(tenantId), 'of somebody else');
}

async function failed(world: World) {
  const asked = await ask(world);
  await takeName(world, asked);
  const { handle } = await started(world, asked);
  await handle.result().catch(() => undefined);
  return { asked, handle };
}

async function cancelledAt(
  { world, holds }: Stage,
  point: string,
  how: { update?: typeof FINISH } = {},
  meanwhile: () => Promise<void> = async () => undefined,
): Promise<WorkflowHandle> {
  const asked = { ...(await ask(world)), ...how };
  const id = lifecycleWorkflowId(asked.tenantId);
  const hold = holds.at(point, id);
  const starting = startProvision(world, asked);
  await hold.reached;
  await world.temporal.workflow.getHandle(id).cancel();
  await meanwhile();
  hold.release();
  return (await starting).handle;
}

function isolationProbe({ world }: Stage): Promise<WorkflowHandle> {
  return world.temporal.workflow.start(ISOLATION_PROBE, {
    workflowId: `isolation-probe/${randomUUID()}`,
    taskQueue: world.taskQueue,
    args: [{ sample: 3, patience: SHORT }],
  });
}

async function batch(world: World, slugs: readonly string[]): Promise<WorkflowHandle> {
  return (await startBatch(world, await askForBatch(world, slugs, NAME), 1, 2)).handle;
}
