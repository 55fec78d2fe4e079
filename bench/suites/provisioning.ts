// Provisioning: how near our own code comes to what its parts cost by themselves. See docs/benchmarks.md.

import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { WithStartWorkflowOperation } from '@temporalio/client';
import { MockActivityEnvironment } from '@temporalio/testing';
import { ADMIT, type BatchFence } from '../../domain/contracts.js';
import { newOperationId, newTenantId, type OperationId, type TenantId } from '../../domain/ids.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { batchWorkflowId } from '../../domain/workflow-ids.js';
import { atOnce, type Benchmark, type Figure, figure, inTurn, timed } from '../harness.js';
import { post } from '../post.js';
import { createStage, type RecordingSide, type Side, type Stage } from '../stage.js';
import { forOthers, passwordsIn, record, type Statement, send } from '../statements.js';

const AT_ONCE = 50;
const SINGLES = 100;
const BATCH = 1_000;
const CHUNK = 100;

const benchmark: Benchmark = {
  name: 'provisioning',
  async run(say) {
    const stage = await createStage();
    const noop = await startNoop(stage);
    try {
      const figures: Record<string, Figure> = {};
      say('one at a time on an idle machine');
      Object.assign(figures, await latencies(stage));
      say('recording the statements of one tenant and of a batch');
      const single = await recordSingle(stage.recording);
      const batch = await recordBatch(stage.recording);
      say('activities against their statements sent by hand');
      Object.assign(figures, await statementsAgainstHand(stage, single));
      say(`${AT_ONCE} at once against what the parts cost`);
      Object.assign(figures, await singlesAgainstLimit(stage, single));
      say(`batches of ${BATCH}`);
      Object.assign(figures, await batches(stage, batch));
      return { figures, environment: stage.environment };
    } finally {
      noop.kill();
      await stage.close();
    }
  },
};
export default benchmark;

// One tenant on an idle machine ------------------------------------------------------------------------------------

async function latencies(stage: Stage): Promise<Record<string, Figure>> {
  for (let i = 0; i < 10; i++) {
    await create(stage, 60);
    await noop(stage);
  }
  const admitted: number[] = [];
  const active: number[] = [];
  const engine: { admitted: number; ended: number }[] = [];
  for (let i = 0; i < 40; i++) {
    admitted.push(await timed(() => create(stage)));
    await idle(stage);
    active.push(await timed(() => create(stage, 60)));
    engine.push(await noop(stage));
  }
  return {
    admitted_p50_ms: figure(admitted, { is: '<=', value: 50 }),
    active_p50_ms: figure(active, { is: '<=', value: 150 }),
    // Milliseconds tell of the machine too; by these a reader can tell which.
    noop_admitted_p50_ms: figure(engine.map((sample) => sample.admitted)),
    noop_ended_p50_ms: figure(engine.map((sample) => sample.ended)),
  };
}

/** Waits until nothing is running any more, so that the next sample starts on an idle machine. */
async function idle({ dependencies }: Stage): Promise<void> {
  const running = "SELECT FROM operation WHERE status = 'running' LIMIT 1";
  while ((await dependencies.catalogue.pool.query(running)).rowCount !== 0)
    await new Promise((resolve) => setImmediate(resolve));
}

/** Asks for a tenant, and waits up to so many seconds for it to be there. */
async function create(stage: Stage, wait?: number): Promise<void> {
  const body = { slug: `b-${randomUUID()}`, name: 'Benchmark', plan: 'team' };
  await post(stage, '/v1/tenants', body, wait === undefined ? { expected: 202 } : { wait, expected: 201 });
}

// The activities against the same statements by hand ---------------------------------------------------------------

/** What one tenant's provisioning sends, by its phases. */
interface Phases {
  readonly names: { readonly tenantId: TenantId; readonly operationId: OperationId; readonly slug: string };
  readonly admit: Statement[];
  readonly stores: Statement[][];
  readonly verify: Statement[];
  readonly activate: Statement[];
}

async function ask({ dependencies }: Side): Promise<Phases['names']> {
  const slug = `b-${randomUUID()}`;
  const body = { slug, name: 'Benchmark', plan: 'team' };
  const { operationId, tenantId } = await dependencies.catalogue.requests.intake({
    kind: 'provision',
    body,
    slug,
  });
  if (tenantId === undefined) throw new Error('no tenant id');
  return { tenantId, operationId, slug };
}

async function recordSingle(side: RecordingSide): Promise<Phases> {
  const { activities } = side;
  const recorded = (work: () => Promise<unknown>) =>
    record(side.servers, (listener) => side.onTenantClient(listener), work);
  let names: Phases['names'] | undefined;
  const admit = await recorded(async () => {
    names = await ask(side);
    await activities.admitProvision({ operationId: names.operationId, attempt: 1 });
  });
  if (names === undefined) throw new Error('nothing was asked');
  const fence = { ...names, generation: 1 };
  return {
    names,
    admit,
    stores: [
      await recorded(() => activities.provisionPostgres(fence)),
      await recorded(() => activities.provisionMongo(fence)),
      await recorded(() => activities.provisionRedis(fence)),
    ],
    verify: await recorded(() => activities.verifyTenant(fence)),
    activate: await recorded(() => activities.activateTenant(fence)),
  };
}

/** The phases for so many other tenants, made ahead of the clock. */
function others({ servers }: Stage, phases: Phases, count: number): Phases[] {
  return Array.from({ length: count }, () => {
    const tenantId = newTenantId();
    const operationId = newOperationId();
    const slug = `b-${randomUUID()}`;
    const names = new Map<string, string>([
      [phases.names.tenantId, tenantId],
      [phases.names.operationId, operationId],
      [phases.names.slug.slice(2), slug.slice(2)],
      [mongoDatabaseName(phases.names.tenantId), mongoDatabaseName(tenantId)],
    ]);
    const changed: Phases = {
      names: { tenantId, operationId, slug },
      admit: forOthers(phases.admit, names),
      stores: phases.stores.map((statements) => forOthers(statements, names)),
      verify: forOthers(phases.verify, names),
      activate: forOthers(phases.activate, names),
    };
    for (const [user, password] of passwordsIn(changed.stores.flat())) servers.passwords.set(user, password);
    return changed;
  });
}

async function byHand(stage: Stage, { admit, stores, verify, activate }: Phases): Promise<void> {
  await send(stage.servers, admit);
  await Promise.all(stores.map((statements) => send(stage.servers, statements)));
  await send(stage.servers, verify);
  await send(stage.servers, activate);
}

async function byActivities(stage: Stage): Promise<void> {
  const { activities } = stage;
  const names = await ask(stage);
  await activities.admitProvision({ operationId: names.operationId, attempt: 1 });
  const fence = { ...names, generation: 1 };
  await Promise.all([
    activities.provisionPostgres(fence),
    activities.provisionMongo(fence),
    activities.provisionRedis(fence),
  ]);
  await activities.verifyTenant(fence);
  await activities.activateTenant(fence);
}

async function statementsAgainstHand(stage: Stage, phases: Phases): Promise<Record<string, Figure>> {
  const count = 40;
  const side = {
    ours: () => timed(() => atOnce(8, Array.from({ length: count }), () => byActivities(stage))),
    hand: () => {
      const prepared = others(stage, phases, count);
      return timed(() => atOnce(8, prepared, (other) => byHand(stage, other)));
    },
  };
  await inTurn(1, side);
  const { ours, hand } = await inTurn(7, side);
  return { statements_vs_hand: figure(ratios(hand, ours), { is: '>=', value: 0.8 }) };
}

// 50 at once against the limit -------------------------------------------------------------------------------------

async function startNoop({ temporalAddress }: Stage) {
  const child = fork(path.join(__dirname, '..', 'noop', 'worker.js'), [temporalAddress, 'noop']);
  await once(child, 'message');
  return child;
}

/** @returns milliseconds until it was admitted, and until it had ended */
async function noop({ temporal }: Stage): Promise<{ admitted: number; ended: number }> {
  const begun = performance.now();
  const start = new WithStartWorkflowOperation('noop', {
    workflowId: `noop/${randomUUID()}`,
    taskQueue: 'noop',
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  await temporal.workflow.executeUpdateWithStart(ADMIT, { startWorkflowOperation: start });
  const admitted = performance.now() - begun;
  await (await start.workflowHandle()).result();
  return { admitted, ended: performance.now() - begun };
}

async function singlesAgainstLimit(stage: Stage, phases: Phases): Promise<Record<string, Figure>> {
  const perTenant = (milliseconds: number): number => milliseconds / SINGLES;
  const items = Array.from({ length: SINGLES });
  const side = {
    engine: async () => perTenant(await timed(() => atOnce(AT_ONCE, items, () => noop(stage)))),
    hand: async () => {
      const prepared = others(stage, phases, SINGLES);
      return perTenant(await timed(() => atOnce(AT_ONCE, prepared, (other) => byHand(stage, other))));
    },
    ours: async () => perTenant(await timed(() => atOnce(AT_ONCE, items, () => create(stage, 60)))),
  };
  await inTurn(1, side);
  // Each side alone differs by a quarter from sample to sample.
  const { engine, hand, ours } = await inTurn(11, side);
  const limit = engine.map((time, round) => time + (hand[round] ?? Number.NaN));
  return {
    single_vs_limit: figure(ratios(limit, ours), { is: '>=', value: 0.9 }),
    single_tenants_per_s: figure(ours.map(perSecond)),
    noop_workflows_per_s: figure(engine.map(perSecond)),
    hand_tenants_per_s: figure(hand.map(perSecond)),
  };
}

// Batches ----------------------------------------------------------------------------------------------------------

interface BatchPhases {
  readonly tenants: readonly TenantId[];
  readonly slugs: readonly string[];
  readonly operationId: OperationId;
  readonly admit: Statement[];
  readonly chunks: {
    readonly stores: Statement[][];
    readonly verify: Statement[];
    readonly activate: Statement[];
  }[];
  readonly close: Statement[];
}

const batchBody = () => ({
  tenants: Array.from({ length: BATCH }, () => ({
    slug: `b-${randomUUID()}`,
    name: 'Benchmark',
    plan: 'team',
  })),
});

async function recordBatch(side: RecordingSide): Promise<BatchPhases> {
  const { activities, dependencies, servers } = side;
  const recorded = (work: () => Promise<unknown>) =>
    record(
      servers,
      (listener) => side.onTenantClient(listener),
      () => new MockActivityEnvironment().run(work),
    );
  const body = batchBody();
  let operationId: OperationId | undefined;
  const admit = await recorded(async () => {
    ({ operationId } = await dependencies.catalogue.requests.intake({ kind: 'provision-batch', body }));
    await activities.admitBatch({ operationId, attempt: 1 });
  });
  if (operationId === undefined) throw new Error('nothing was asked');
  const chunks: BatchPhases['chunks'] = [];
  for (let from = 0; from < BATCH; from += CHUNK) {
    const ordinals = Array.from({ length: CHUNK }, (_, i) => from + i);
    const fence: BatchFence = { operationId, attempt: 1, ordinals };
    chunks.push({
      stores: [
        await recorded(() => activities.batchPostgres(fence)),
        await recorded(() => activities.batchMongo(fence)),
        await recorded(() => activities.batchRedis(fence)),
      ],
      verify: await recorded(() => activities.batchVerify({ ...fence, sample: 2 })),
      activate: await recorded(() => activities.batchActivate(fence)),
    });
  }
  const asked = { operationId, attempt: 1 };
  const close = await recorded(() => activities.closeBatch(asked));
  const items = await dependencies.catalogue.operations.batchItems(operationId);
  const tenants = items.flatMap((item) => (item.tenantId === null ? [] : [item.tenantId]));
  return { tenants, slugs: items.map((item) => item.slug), operationId, admit, chunks, close };
}

function otherBatch({ servers }: Stage, batch: BatchPhases): BatchPhases {
  const operationId = newOperationId();
  const tenants = batch.tenants.map(() => newTenantId());
  const slugs = batch.slugs.map(() => `b-${randomUUID()}`);
  const names = new Map<string, string>([
    [batch.operationId, operationId],
    ...batch.slugs.map((slug, i): [string, string] => [slug.slice(2), (slugs[i] ?? '').slice(2)]),
    ...batch.tenants.flatMap((old, i): [string, string][] => {
      const fresh = tenants[i] ?? old;
      return [
        [old, fresh],
        [mongoDatabaseName(old), mongoDatabaseName(fresh)],
      ];
    }),
  ]);
  const change = (statements: Statement[]): Statement[] => forOthers(statements, names);
  const chunks = batch.chunks.map(({ stores, verify, activate }) => ({
    stores: stores.map(change),
    verify: change(verify),
    activate: change(activate),
  }));
  for (const [user, password] of passwordsIn(chunks.flatMap((chunk) => chunk.stores.flat())))
    servers.passwords.set(user, password);
  return { operationId, tenants, slugs, admit: change(batch.admit), chunks, close: change(batch.close) };
}

/** As the activities have it: two chunks at once, and in each the commands of eight MongoDB tenants. */
async function batchByHand(stage: Stage, { admit, chunks, close }: BatchPhases): Promise<void> {
  await send(stage.servers, admit);
  await atOnce(2, chunks, async ({ stores, verify, activate }) => {
    await Promise.all(stores.map((statements) => sendGrouped(stage, statements)));
    await sendGrouped(stage, verify);
    await send(stage.servers, activate);
  });
  await send(stage.servers, close);
}

/** In order for each tenant; eight tenants of MongoDB at once. */
async function sendGrouped({ servers }: Stage, statements: readonly Statement[]): Promise<void> {
  const groups = new Map<string, Statement[]>();
  const rest: Statement[] = [];
  for (const statement of statements) {
    if (statement.store !== 'mongo') rest.push(statement);
    else {
      const owner =
        statement.user !== undefined && !servers.standing.has(statement.user) ? statement.user : statement.db;
      groups.set(owner, [...(groups.get(owner) ?? []), statement]);
    }
  }
  await Promise.all([send(servers, rest), atOnce(8, [...groups.values()], (group) => send(servers, group))]);
}

async function createBatch(stage: Stage): Promise<void> {
  const { id } = await post<{ id: OperationId }>(stage, '/v1/tenants:batch', batchBody(), { expected: 202 });
  await stage.temporal.workflow.getHandle(batchWorkflowId(id)).result();
}

async function batches(stage: Stage, batch: BatchPhases): Promise<Record<string, Figure>> {
  const items = Array.from({ length: SINGLES });
  const side = {
    singles: async () => (await timed(() => atOnce(AT_ONCE, items, () => create(stage, 60)))) / SINGLES,
    batched: async () => (await timed(() => createBatch(stage))) / BATCH,
    hand: async () => {
      const prepared = otherBatch(stage, batch);
      return (await timed(() => batchByHand(stage, prepared))) / BATCH;
    },
  };
  await inTurn(1, side);
  const { singles, batched, hand } = await inTurn(3, side);
  return {
    batch_vs_single: figure(ratios(singles, batched), { is: '>=', value: 3 }),
    batch_vs_hand: figure(ratios(hand, batched), { is: '>=', value: 0.8 }),
    batch_tenants_per_s: figure(batched.map(perSecond)),
    batch_hand_tenants_per_s: figure(hand.map(perSecond)),
  };
}

const ratios = (over: readonly number[], under: readonly number[]): number[] =>
  over.map((value, i) => value / (under[i] ?? Number.NaN));

const perSecond = (milliseconds: number): number => 1_000 / milliseconds;
