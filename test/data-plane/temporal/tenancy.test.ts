/** A tenant's context on its way through Temporal: it arrives wherever the workflow's work is done, or is refused. */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import {
  Client,
  Connection,
  ScheduleOverlapPolicy,
  WithStartWorkflowOperation,
  type WorkflowClientInterceptor,
} from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import {
  bundleWorkflowCode,
  DefaultLogger,
  NativeConnection,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { createDigestClient, digestFor } from '../../../examples/temporal/client.js';
import { createDigestWorker } from '../../../examples/temporal/worker.js';
import { CONTEXT_HEADER, MESSAGE_HEADER } from '../../../tenancy/temporal/header.js';
import { type TemporalTenancy, temporalTenancy } from '../../../tenancy/temporal/index.js';
import { createPasses } from '../../../tenancy/temporal/passes.js';
import { currentTenant, type Tenantry } from '../../../tenancy/index.js';
import { connectWorkers } from '../../support/temporal-runtime.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { change, insertTenant, open, type Row } from '../context/support.js';
import { probeActivities } from './probe-activities.js';
import type * as workflows from './workflows.js';

const namespace = 'default';
let world: World;
let tenantry: Tenantry;
let tenancy: TemporalTenancy;
let connection: Connection;
let native: NativeConnection;
let client: Client;
let bundle: WorkflowBundleWithSourceMap;
let taskQueue: string;
let acme: Row;
let other: Row;
const stops: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  world = await createWorld();
  tenantry = open(world);
  await tenantry.listening;
  tenancy = temporalTenancy(tenantry, { namespace });
  connection = await Connection.connect({ address: world.stack.temporalAddress });
  native = await connectWorkers(world.stack.temporalAddress);
  client = new Client({ connection, namespace, interceptors: tenancy.client });
  const dist = join(__dirname, '..', '..', '..', 'dist');
  bundle = await bundleWorkflowCode({
    workflowsPath: join(dist, 'test', 'data-plane', 'temporal', 'workflows.js'),
    workflowInterceptorModules: [join(dist, 'tenancy', 'temporal', 'workflow.js')],
    logger: new DefaultLogger('ERROR'),
  });
  taskQueue = `${world.taskQueue}-product`;
  await run(
    await Worker.create({
      connection: native,
      namespace,
      taskQueue,
      workflowBundle: bundle,
      activities: { ...tenancy.activities, ...probeActivities },
      interceptors: { activity: tenancy.worker.activity, client: tenancy.worker.client },
      reuseV8Context: true,
    }),
  );
  [acme, other] = [await insertTenant(world), await insertTenant(world)];
}, 120_000);
afterAll(async () => {
  for (const stop of stops) await stop();
  await native.close();
  await connection.close();
  await tenantry.close();
  await world.close();
});

async function run(worker: Worker): Promise<void> {
  const running = worker.run();
  stops.push(async () => {
    worker.shutdown();
    await running;
  });
}

let ids = 0;
const fresh = (): string => `${taskQueue}/${++ids}`;
const as = <T>(row: Row, work: () => Promise<T>): Promise<T> => tenantry.runWithTenant(row.slug, work);

/** A client that sends these headers, whatever the tenant. */
function forging(headers: Record<string, string>): Client {
  const payloads = Object.fromEntries(
    Object.entries(headers).map(([name, text]) => [name, defaultPayloadConverter.toPayload(text)]),
  );
  const put = <I extends { headers: object }>(input: I): I => ({ ...input, headers: payloads });
  const interceptor: WorkflowClientInterceptor = {
    startWithDetails: (input, next) => next(put(input)),
    startUpdateWithStart: (input, next) =>
      next({ ...input, workflowStartHeaders: payloads, updateHeaders: payloads }),
    signal: (input, next) => next(put(input)),
    startUpdate: (input, next) => next(put(input)),
  };
  return new Client({ connection, namespace, interceptors: { workflow: [interceptor] } });
}
const execute = (by: Client, workflowId = fresh()): Promise<string> =>
  by.workflow.execute<typeof workflows.sayWho>('sayWho', { taskQueue, workflowId });

/** The type of the failure that a workflow or update ended with. */
async function failure(work: Promise<unknown>): Promise<unknown> {
  try {
    return { came: await work };
  } catch (error) {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
      if ('type' in cause && typeof cause.type === 'string') return cause.type;
    return error;
  }
}

test('the example: a digest over children and runs, each as its tenant', async () => {
  const queue = `${taskQueue}-example`;
  await run(
    await createDigestWorker(tenantry, {
      connection: native,
      namespace,
      taskQueue: queue,
      workflowBundle: bundle,
    }),
  );
  const digests = createDigestClient(tenantry, connection, namespace);
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
  for (const [type, args] of [
    ['everyWay', [2]],
    ['interleaved', [2]],
  ] as const) {
    const handle = await as(acme, () =>
      client.workflow.start(type, { taskQueue, workflowId: fresh(), args: [...args] }),
    );
    await handle.result();
    const first = client.workflow.getHandle(handle.workflowId, handle.firstExecutionRunId);
    await Worker.runReplayHistory({ workflowBundle: bundle }, await first.fetchHistory(), handle.workflowId);
  }
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
    expect(await failure(execute(client))).toBe('CONTEXT_REFUSED');
    expect(await failure(execute(forging({ [CONTEXT_HEADER]: 'acme' })))).toBe('CONTEXT_REFUSED');
    expect(await failure(execute(forging({ [CONTEXT_HEADER]: '' })))).toBe('CONTEXT_REFUSED');
  });

  test('whose context was altered', async () => {
    const workflowId = fresh();
    const text = await signed(workflowId);
    expect(await execute(forging({ [CONTEXT_HEADER]: text }), workflowId)).toBe(acme.tenantId);
    for (const at of [0, 5, 20, Math.floor(text.length / 2), text.length - 1]) {
      const id = fresh();
      const mine = await signed(id);
      const altered = mine.slice(0, at) + (mine[at] === 'A' ? 'B' : 'A') + mine.slice(at + 1);
      expect([at, await failure(execute(forging({ [CONTEXT_HEADER]: altered }), id))]).toEqual([
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
      expect(await failure(execute(forging({ [CONTEXT_HEADER]: text }), id))).toBe('CONTEXT_REFUSED');
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
      forging({ [CONTEXT_HEADER]: signer.sign('temporal:run', { ...claims, issuedAt }) });
    expect(await failure(execute(at(Date.now() - 12 * 60_000), id))).toBe('CONTEXT_REFUSED');
    expect(await execute(at(Date.now() - 60_000), id)).toBe(acme.tenantId);
  });

  test('that gets past its start: the activities refuse it as well', async () => {
    // Without the interceptors in the bundle nothing is carried or verified there.
    const bare = await bundleWorkflowCode({
      workflowsPath: join(
        __dirname,
        '..',
        '..',
        '..',
        'dist',
        'test',
        'data-plane',
        'temporal',
        'workflows.js',
      ),
      logger: new DefaultLogger('ERROR'),
    });
    const queue = `${taskQueue}-bare`;
    await run(
      await Worker.create({
        connection: native,
        namespace,
        taskQueue: queue,
        workflowBundle: bare,
        activities: probeActivities,
        interceptors: { activity: tenancy.worker.activity },
      }),
    );
    const id = fresh();
    const started = as(acme, () =>
      client.workflow.execute<typeof workflows.sayWho>('sayWho', { taskQueue: queue, workflowId: id }),
    );
    expect(await failure(started)).toBe('CONTEXT_REFUSED');
  });
});

describe('signals and updates', () => {
  const listen = (row: Row, count: number, workflowId = fresh()) =>
    as(row, () =>
      client.workflow.start<typeof workflows.listens>('listens', { taskQueue, workflowId, args: [count] }),
    );

  test('of the same tenant arrive in order, from clients and from workflows', async () => {
    const handle = await listen(acme, 4);
    await as(acme, async () => {
      for (const text of ['one', 'two', 'three']) await handle.signal('note', text);
      expect(await handle.executeUpdate('ask', { args: ['who'] })).toBe(`who:${acme.tenantId}`);
    });
    const teller = fresh();
    expect(
      await as(acme, () =>
        client.workflow.execute<typeof workflows.tells>('tells', {
          taskQueue,
          workflowId: teller,
          args: [handle.workflowId],
        }),
      ),
    ).toBe(acme.tenantId);
    expect(await handle.result()).toEqual(['one', 'two', 'three', `from ${teller}`, acme.tenantId]);
  });

  test('that are unsigned, of another tenant or for another workflow are refused', async () => {
    const handle = await listen(acme, 1);
    const elsewhere = await listen(acme, 1);
    const message = await as(acme, async () =>
      createPasses(tenantry.handingOn.signer, { namespace }).forMessage(
        currentTenant(),
        elsewhere.workflowId,
      ),
    );
    const copied = forging({ [MESSAGE_HEADER]: message }).workflow.getHandle(handle.workflowId);
    await handle.signal('note', 'unsigned');
    await as(other, () => handle.signal('note', 'of another'));
    await copied.signal('note', 'copied');
    expect(await failure(handle.executeUpdate('ask', { args: ['?'] }))).toBe('CONTEXT_REFUSED');
    expect(await failure(as(other, () => handle.executeUpdate('ask', { args: ['?'] })))).toBe(
      'CONTEXT_REFUSED',
    );
    expect(await failure(copied.executeUpdate('ask', { args: ['?'] }))).toBe('CONTEXT_REFUSED');
    await as(other, () =>
      client.workflow.execute<typeof workflows.tells>('tells', {
        taskQueue,
        workflowId: fresh(),
        args: [handle.workflowId],
      }),
    );
    await as(acme, async () => {
      await handle.signal('note', 'mine');
      await elsewhere.signal('note', 'done');
    });
    expect(await handle.result()).toEqual(['mine', acme.tenantId]);
    expect(await elsewhere.result()).toEqual(['done', acme.tenantId]);
  });

  test('that come with a start are looked at as well, where their handlers are there before it', async () => {
    const by = (sender: Client, workflowId: string): Promise<string> =>
      sender.workflow.executeUpdateWithStart<typeof workflows.listensEarly, string, [string]>('ask', {
        args: ['with the start'],
        startWorkflowOperation: new WithStartWorkflowOperation('listensEarly', {
          taskQueue,
          workflowId,
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      });
    const workflowId = fresh();
    const context = await as(acme, async () =>
      createPasses(tenantry.handingOn.signer, { namespace }).forWorkflow(
        currentTenant(),
        workflowId,
        'listensEarly',
      ),
    );
    // The start is the tenant's, the update nobody's.
    expect(await failure(by(forging({ [CONTEXT_HEADER]: context }), workflowId))).toBe('CONTEXT_REFUSED');
    await as(acme, () => client.workflow.getHandle(workflowId).signal('note', 'end'));
    expect(await client.workflow.getHandle(workflowId).result()).toEqual(['end']);
    const own = fresh();
    expect(await as(acme, () => by(client, own))).toBe('1');
    await as(acme, () => client.workflow.getHandle(own).signal('note', 'end'));
    expect(await client.workflow.getHandle(own).result()).toEqual(['with the start', 'end']);
  });

  describe('that a validator looks at', () => {
    const start = async () => {
      const workflowId = fresh();
      const handle = await as(acme, () =>
        client.workflow.start<typeof workflows.guarded>('guarded', { taskQueue, workflowId }),
      );
      // Before its function has begun there is no handler, which Temporal says by itself.
      const isBegun = (): Promise<boolean> =>
        handle.query('wordsTried').then(
          () => true,
          () => false,
        );
      await until('its function has begun', isBegun);
      return handle;
    };
    /** What the sender is told. */
    const told = async (work: Promise<unknown>): Promise<unknown> => {
      try {
        return await work;
      } catch (error) {
        const { cause } = error as { cause?: { message?: string; type?: string; details?: unknown[] } };
        return [cause?.type, cause?.message, cause?.details ?? []];
      }
    };

    test('tell its words to their own tenant alone', async () => {
      const handle = await start();
      const send = (word: string) => handle.executeUpdate('ask', { args: [word] });
      const refused = (because: string) => [
        'CONTEXT_REFUSED',
        expect.stringContaining(because),
        expect.anything(),
      ];
      for (const word of ['wrong', 'odd', 'open']) {
        expect([word, await told(send(word))]).toEqual([word, refused('')]);
        expect([word, await told(as(other, () => send(word)))]).toEqual([word, refused('another tenant')]);
      }
      await as(acme, async () => {
        expect(await told(send('wrong'))).toEqual(['WRONG_WORD', 'it is open', ['wrong']]);
        expect(await told(send('odd'))).toEqual(['TypeError', 'an odd word', []]);
        expect(await told(send('open'))).toBe(`1:${acme.tenantId}`);
        // What names no sender at all does not get as far as the validator, nor into the history.
        expect((await handle.query<string[]>('wordsTried')).length).toBe(6);
        await handle.signal('note', 'end');
      });
      expect(await handle.result()).toEqual(['open', 'end']);
      // What was said live is not said again, and what came of it is the same.
      await Worker.runReplayHistory(
        { workflowBundle: bundle },
        await handle.fetchHistory(),
        handle.workflowId,
      );
    });
  });

  test('that another worker had accepted are refused: what their validator said died with it', async () => {
    const workflowId = fresh();
    const ask = await as(acme, () => {
      const text = createPasses(tenantry.handingOn.signer, { namespace }).forMessage(
        currentTenant(),
        workflowId,
      );
      return client.workflow.start<typeof workflows.asksOfTakenOver>('asksOfTakenOver', {
        taskQueue,
        workflowId,
        args: [text],
      });
    });
    expect(await failure(ask.result())).toBe('CONTEXT_REFUSED');
  });

  test('with a start keep it', async () => {
    const workflowId = fresh();
    const handle = await as(acme, () =>
      client.workflow.signalWithStart<typeof workflows.listens, [string]>('listens', {
        taskQueue,
        workflowId,
        args: [1],
        signal: 'note',
        signalArgs: ['first'],
      }),
    );
    expect(await handle.result()).toEqual(['first', acme.tenantId]);
  });
});

test('a suspension makes activities wait and a purge ends them', async () => {
  const row = await insertTenant(world);
  await as(row, async () => undefined);
  await change(world, row.tenantId, { state: 'active' });
  const handle = await as(row, () =>
    client.workflow.start<typeof workflows.listens>('listens', { taskQueue, workflowId: fresh(), args: [1] }),
  );
  await change(world, row.tenantId, { state: 'suspended', mode: 'blocked' });
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
  await forging({ [MESSAGE_HEADER]: text })
    .workflow.getHandle(handle.workflowId)
    .signal('note', 'go');
  await until('it is refused', async () =>
    (await handle.describe()).raw.pendingActivities?.some(
      (one) => one.lastFailure?.applicationFailureInfo?.type === 'TENANT_SUSPENDED',
    ),
  );
  await change(world, row.tenantId, { state: 'active' });
  expect(await handle.result()).toEqual(['go', row.tenantId]);
  const workflowId = fresh();
  const passes = createPasses(signer, { namespace });
  const gone = await as(row, async () => passes.forWorkflow(currentTenant(), workflowId, 'sayWho'));
  await change(world, row.tenantId, { state: 'purging' });
  await until(
    'it is known',
    async () => tenantry.handingOn.directory.peek(`id:${row.tenantId}`)?.state !== 'active',
  );
  expect(await failure(execute(forging({ [CONTEXT_HEADER]: gone }), workflowId))).toBe('TENANT_GONE');
});
