/** A tenant's context on its way through Temporal: it arrives wherever the workflow's work is done, or is refused. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Client, ScheduleOverlapPolicy } from '@temporalio/client';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { createDigestClient, digestFor } from '../../../examples/temporal/client.js';
import { createDigestWorker } from '../../../examples/temporal/worker.js';
import { currentTenant, type Tenantry } from '../../../tenancy/index.js';
import { CONTEXT_HEADER, MESSAGE_HEADER } from '../../../tenancy/temporal/header.js';
import { createPasses } from '../../../tenancy/temporal/passes.js';
import { type Replayed, replay } from '../../support/replay.js';
import { until } from '../../support/until.js';
import { change, insertTenant, type Row } from '../context/support.js';
import { probeActivities } from './probe-activities.js';
import { failure, namespace, openStage, type Stage, workflowsPath } from './support.js';
import type * as workflows from './workflows.js';

let stage: Stage;
let tenantry: Tenantry;
let client: Client;
let bundle: Stage['bundle'];
let taskQueue: string;
let acme: Row;
let other: Row;
beforeAll(async () => {
  stage = await openStage();
  ({ tenantry, client, bundle, taskQueue, acme, other } = stage);
}, 120_000);
afterAll(() => stage.close());

const fresh = (): string => stage.fresh();
const as = <T>(row: Row, work: () => Promise<T>): Promise<T> => stage.as(row, work);

test('the example: a digest over children and runs, each as its tenant', async () => {
  const queue = `${taskQueue}-example`;
  stage.run(
    await createDigestWorker(tenantry, {
      connection: stage.native,
      namespace,
      taskQueue: queue,
      workflowBundle: bundle,
    }),
  );
  const digests = createDigestClient(tenantry, stage.connection, namespace);
  const all = await Promise.all(
    [acme, other].map(({ slug }) =>
      digestFor(tenantry, digests, slug, { taskQueue: queue, weeks: 3, pause: 10 }),
    ),
  );
  for (const [i, row] of [acme, other].entries())
    expect(all[i]).toEqual(
      Array.from({ length: 3 }, () => ({
        title: `Digest of ${row.slug}`,
        tickets: row.tenantId,
        sent: row.tenantId,
      })),
    );
});

test('activities, local ones, children of children, later runs and runs of another type keep it', async () => {
  const seen = await as(acme, () =>
    client.workflow.execute<typeof workflows.everyWay>('everyWay', {
      taskQueue,
      workflowId: fresh(),
      args: [3],
    }),
  );
  expect(seen).toEqual(Array.from({ length: 16 }, () => acme.tenantId));
});

test('histories are replayed to the same end, without a key', async () => {
  const made: Replayed[] = [];
  for (const [type, args] of [
    ['everyWay', [2]],
    ['interleaved', [2]],
  ] as const) {
    const handle = await as(acme, () =>
      client.workflow.start(type, { taskQueue, workflowId: fresh(), args: [...args] }),
    );
    await handle.result();
    const first = client.workflow.getHandle(handle.workflowId, handle.firstExecutionRunId);
    made.push({ workflowId: handle.workflowId, history: await first.fetchHistory() });
  }
  expect(await replay(bundle, made)).toEqual({});
});

/** Recorded with `everyWay`, `listensEarly` and `listens` by the version before `patched(...)` in the interceptors. */
test('histories of runs that were admitted before their function began are replayed as well', async () => {
  const folder = join(__dirname, 'histories');
  const files = readdirSync(folder);
  expect(files).toHaveLength(3);
  const histories = files.map((file) => ({
    workflowId: file,
    history: historyFromJSON(JSON.parse(readFileSync(join(folder, file), 'utf8'))),
  }));
  expect(await replay(bundle, histories)).toEqual({});
});

test('a chain of runs keeps it however long after its beginning it goes on or tries again', async () => {
  const { since } = await as(acme, () =>
    client.workflow.execute<typeof workflows.chain>('chain', {
      taskQueue,
      workflowId: fresh(),
      args: [0],
      retry: { initialInterval: '50ms', maximumAttempts: 3 },
    }),
  );
  // What the context's age at the start is measured by is the beginning of the chain, not that of a run.
  expect(since).toBeGreaterThan(300);
});

test('a schedule keeps it', async () => {
  const scheduleId = fresh();
  const handle = await as(acme, () =>
    client.schedule.create({
      scheduleId,
      spec: {},
      policies: { overlap: ScheduleOverlapPolicy.ALLOW_ALL },
      action: { type: 'startWorkflow', workflowType: 'sayWho', workflowId: `${scheduleId}-run`, taskQueue },
    }),
  );
  try {
    await handle.trigger();
    const started = await until('it ran', async () => (await handle.describe()).info.recentActions[0]);
    const { workflowId } = started.action.workflow;
    expect(await client.workflow.getHandle(workflowId).result()).toBe(acme.tenantId);
    // Changed outside of any tenant, it is still this one's.
    await handle.update((previous) => ({ ...previous, state: { ...previous.state, note: 'changed' } }));
    // The ids of a schedule's runs are told apart by their second.
    await pause(1_100);
    await handle.trigger();
    const again = await until('it ran again', async () =>
      (await handle.describe()).info.recentActions.find(
        (action) => action.action.workflow.workflowId !== workflowId,
      ),
    );
    expect(await client.workflow.getHandle(again.action.workflow.workflowId).result()).toBe(acme.tenantId);
  } finally {
    await handle.delete();
  }
});

test('two tenants on one worker never mix', async () => {
  const rows = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? acme : other));
  const all = await Promise.all(
    rows.map((row) =>
      as(row, () =>
        client.workflow.execute<typeof workflows.interleaved>('interleaved', {
          taskQueue,
          workflowId: fresh(),
          args: [6],
        }),
      ),
    ),
  );
  for (const [i, row] of rows.entries()) expect([...new Set(all[i])]).toEqual([row.tenantId]);
});

describe('a worker refuses a workflow', () => {
  const passes = () => createPasses(tenantry.handingOn.signer, { namespace });
  const signed = (workflowId: string, type = 'sayWho') =>
    as(acme, async () => passes().forWorkflow(currentTenant(), workflowId, type));

  test('that is unsigned', async () => {
    expect(await failure(stage.execute(client))).toBe('CONTEXT_REFUSED');
    expect(await failure(stage.execute(stage.forging({ [CONTEXT_HEADER]: 'acme' })))).toBe('CONTEXT_REFUSED');
    expect(await failure(stage.execute(stage.forging({ [CONTEXT_HEADER]: '' })))).toBe('CONTEXT_REFUSED');
  });

  test('whose context was altered', async () => {
    const workflowId = fresh();
    const text = await signed(workflowId);
    expect(await stage.execute(stage.forging({ [CONTEXT_HEADER]: text }), workflowId)).toBe(acme.tenantId);
    for (const at of [0, 5, 20, Math.floor(text.length / 2), text.length - 1]) {
      const id = fresh();
      const mine = await signed(id);
      const altered = mine.slice(0, at) + (mine[at] === 'A' ? 'B' : 'A') + mine.slice(at + 1);
      expect([at, await failure(stage.execute(stage.forging({ [CONTEXT_HEADER]: altered }), id))]).toEqual([
        at,
        'CONTEXT_REFUSED',
      ]);
    }
  });

  test("whose context is another workflow's, another type's, a message's or a job's", async () => {
    const id = fresh();
    for (const text of [
      await signed(fresh()),
      await signed(id, 'interleaved'),
      await as(acme, async () => tenantry.snapshot()),
      await as(acme, async () => passes().forMessage(currentTenant(), id)),
    ])
      expect(await failure(stage.execute(stage.forging({ [CONTEXT_HEADER]: text }), id))).toBe(
        'CONTEXT_REFUSED',
      );
  });

  test('under an id of before, whose context was signed long ago', async () => {
    const id = fresh();
    const signer = tenantry.handingOn.signer;
    const claims = {
      tenant: acme.tenantId,
      generation: 1,
      policyVersion: 0,
      keyVersion: 0,
      correlationId: 'c',
      boundTo: JSON.stringify([namespace, 'workflow', id, 'sayWho']),
    };
    const at = (issuedAt: number) =>
      stage.forging({ [CONTEXT_HEADER]: signer.sign('temporal:run', { ...claims, issuedAt }) });
    expect(await failure(stage.execute(at(Date.now() - 12 * 60_000), id))).toBe('CONTEXT_REFUSED');
    expect(await stage.execute(at(Date.now() - 60_000), id)).toBe(acme.tenantId);
  });

  test('before anything of it goes out: an activity, a local one, a child, a signal or its next run', async () => {
    const [listening, workflowId] = [fresh(), fresh()];
    await as(acme, () =>
      client.workflow.start<typeof workflows.listens>('listens', {
        taskQueue,
        workflowId: listening,
        args: [1],
      }),
    );
    const by = stage.forging({ [CONTEXT_HEADER]: await signed(fresh(), 'triesAll') });
    const started = by.workflow.execute<typeof workflows.triesAll>('triesAll', {
      taskQueue,
      workflowId,
      args: [listening],
    });
    expect(await failure(started)).toBe('CONTEXT_REFUSED');
    const { events } = await by.workflow.getHandle(workflowId).fetchHistory();
    const reached = (events ?? [])
      .flatMap((event) => Object.keys(event))
      .filter((key) => /^(activity|start|child|signal|workflowExecutionContinued)/.test(key));
    expect(reached).toEqual([]);
  });

  test('that gets past its start: the activities refuse it as well', async () => {
    // Without the interceptors in the bundle nothing is carried or verified there.
    const bare = await bundleWorkflowCode({
      workflowsPath,
      logger: new DefaultLogger('ERROR'),
    });
    const queue = `${taskQueue}-bare`;
    stage.run(
      await Worker.create({
        connection: stage.native,
        namespace,
        taskQueue: queue,
        workflowBundle: bare,
        activities: probeActivities,
        interceptors: { activity: stage.tenancy.worker.activity },
      }),
    );
    const id = fresh();
    const started = as(acme, () =>
      client.workflow.execute<typeof workflows.sayWho>('sayWho', { taskQueue: queue, workflowId: id }),
    );
    expect(await failure(started)).toBe('CONTEXT_REFUSED');
  });
});

test('a suspension makes activities wait and a purge ends them', async () => {
  const row = await insertTenant(stage.world);
  await as(row, async () => undefined);
  await change(stage.world, row.tenantId, { state: 'active' });
  const handle = await as(row, () =>
    client.workflow.start<typeof workflows.listens>('listens', { taskQueue, workflowId: fresh(), args: [1] }),
  );
  await change(stage.world, row.tenantId, { state: 'suspended', mode: 'blocked' });
  await until(
    'it is known',
    async () => tenantry.handingOn.directory.peek(`id:${row.tenantId}`)?.state !== 'active',
  );
  // Signed while it was let in.
  const { signer } = tenantry.handingOn;
  const boundTo = JSON.stringify([namespace, 'message', handle.workflowId]);
  const text = signer.sign('temporal:message', {
    tenant: row.tenantId,
    generation: 1,
    policyVersion: 0,
    keyVersion: 0,
    correlationId: 'c',
    issuedAt: Date.now(),
    expiresAt: Date.now() + 60_000,
    boundTo,
  });
  await stage
    .forging({ [MESSAGE_HEADER]: text })
    .workflow.getHandle(handle.workflowId)
    .signal('note', 'go');
  await until('it is refused', async () =>
    (await handle.describe()).raw.pendingActivities?.some(
      (one) => one.lastFailure?.applicationFailureInfo?.type === 'TENANT_SUSPENDED',
    ),
  );
  await change(stage.world, row.tenantId, { state: 'active' });
  expect(await handle.result()).toEqual(['go', row.tenantId]);
  const workflowId = fresh();
  const passes = createPasses(signer, { namespace });
  const gone = await as(row, async () => passes.forWorkflow(currentTenant(), workflowId, 'sayWho'));
  await change(stage.world, row.tenantId, { state: 'purging' });
  await until(
    'it is known',
    async () => tenantry.handingOn.directory.peek(`id:${row.tenantId}`)?.state !== 'active',
  );
  expect(await failure(stage.execute(stage.forging({ [CONTEXT_HEADER]: gone }), workflowId))).toBe(
    'TENANT_GONE',
  );
});
