import { randomUUID } from 'node:crypto';
import { ApplicationFailure } from '@temporalio/common';
import { isSlugTaken } from '../support/recorded.js';
import { until } from '../support/until.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';
import { tenantBody } from './support/bodies.js';

let world: World;
/** Of each test's own, as is what its workers do. */
let taskQueue: string;
let api: Api;
const workers: RunningWorker[] = [];
beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  taskQueue = `${world.taskQueue}-${randomUUID()}`;
  api = await startApi(world, { taskQueue });
});
afterEach(async () => {
  await api?.close();
  for (const worker of workers.splice(0)) await worker.stop();
});
afterAll(() => world?.close());

async function startWorker(options: Parameters<World['startWorker']>[0] = {}): Promise<RunningWorker> {
  const started = await world.startWorker({ taskQueue, ...options });
  workers.push(started);
  return started;
}

/** A worker in which Redis refuses its step for good, so that the operation fails and is undone. */
const startBrokenWorker = () =>
  startWorker({
    activities: {
      ...world.activities,
      provisionRedis: () =>
        Promise.reject(
          ApplicationFailure.create({
            type: 'STORE_REFUSED',
            nonRetryable: true,
            details: [{ store: 'Redis', reason: 'NOPERM' }],
          }),
        ),
    },
  });

/** A worker whose provisioning stops in MongoDB's step until it is let go. */
async function startHeldWorker() {
  let letGo = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  await startWorker({
    activities: {
      ...world.activities,
      provisionMongo: async (fence) => {
        await held;
        return world.activities.provisionMongo(fence);
      },
    },
  });
  return letGo;
}

test('a failed operation tells why, with its steps, and can be tried again under the same id', async () => {
  const broken = await startBrokenWorker();
  const failed = await api.send('/v1/tenants', { body: tenantBody(), headers: { prefer: 'wait=30' } });
  expect(failed.status).toBe(202);
  expect(failed.headers.get('preference-applied')).toBe('wait=30');
  expect(failed.headers.get('location')).toBe(`/v1/operations/${failed.id}`);
  expect(failed.json).toMatchObject({ status: 'failed', attempt: 1, residue: [] });
  expect(failed.json['error']).toEqual({
    code: 'STORE_REFUSED',
    message: 'Redis refused a statement (NOPERM).',
  });
  expect(failed.json['finishedAt']).not.toBeNull();
  const steps = failed.json['steps'] as { name: string; attempts: number; startedAt: string }[];
  expect(steps.map((step) => step.name)).toEqual(
    expect.arrayContaining(['admit', 'postgres', 'undo-postgres']),
  );
  expect(steps.every((step) => step.attempts >= 1 && !Number.isNaN(Date.parse(step.startedAt)))).toBe(true);
  await broken.stop();

  await startWorker();
  const retried = await api.send(`/v1/operations/${failed.id}:retry`, {
    method: 'POST',
    headers: { prefer: 'wait=30' },
  });
  expect(retried.status).toBe(201);
  expect(retried.json).toMatchObject({
    id: failed.id,
    tenantId: failed.tenantId,
    status: 'succeeded',
    attempt: 2,
  });
  expect((await api.send(`/v1/tenants/${failed.tenantId}`)).json).toMatchObject({
    state: 'active',
    generation: 2,
  });
});

test('a retry that is asked many times at once happens once', async () => {
  const broken = await startBrokenWorker();
  const failed = await api.send('/v1/tenants', { body: tenantBody(), headers: { prefer: 'wait=30' } });
  await broken.stop();
  await startWorker();
  const path = `/v1/operations/${failed.id}:retry`;
  const replies = await Promise.all(
    Array.from({ length: 6 }, () => api.send(path, { method: 'POST', headers: { prefer: 'wait=30' } })),
  );
  // One that begins after the other's end finds nothing left to retry.
  for (const { status, json } of replies)
    expect(status === 409 ? json['code'] : status).toEqual(status === 409 ? 'OPERATION_NOT_RETRYABLE' : 201);
  const after = await api.send(`/v1/operations/${failed.id}`);
  expect(after.json).toMatchObject({ status: 'succeeded', attempt: 2 });
});

test('an operation that runs or has succeeded cannot be tried again', async () => {
  const letGo = await startHeldWorker();
  const running = await api.send('/v1/tenants', { body: tenantBody() });
  const path = `/v1/operations/${running.id}:retry`;
  const whileRunning = await api.send(path, { method: 'POST' });
  expect([whileRunning.status, whileRunning.json['code']]).toEqual([409, 'OPERATION_NOT_RETRYABLE']);
  letGo();
  await world.temporal.workflow.getHandle(`tenant/${running.tenantId}`).result();
  const afterwards = await api.send(path, { method: 'POST' });
  expect(afterwards.json).toMatchObject({ status: 409, detail: expect.stringContaining('succeeded') });
});

test('a wait that ends first answers 202 with the operation still running', async () => {
  const letGo = await startHeldWorker();
  const began = performance.now();
  const reply = await api.send('/v1/tenants', { body: tenantBody(), headers: { prefer: 'wait=1' } });
  expect(performance.now() - began).toBeGreaterThan(900);
  expect([reply.status, reply.json['status']]).toEqual([202, 'running']);
  expect(reply.headers.get('preference-applied')).toBe('wait=1');
  letGo();
});

test('a run that takes longer than an admission may is waited for all the same', async () => {
  const hasty = await startApi(world, { taskQueue, admissionTimeout: 2_000 });
  try {
    const letGo = await startHeldWorker();
    const asked = hasty.send('/v1/tenants', { body: tenantBody(), headers: { prefer: 'wait=30' } });
    await until('its end is waited for by itself', () =>
      hasty.logged.some((line) => line['msg'] === 'the end did not come with the admission'),
    );
    letGo();
    const reply = await asked;
    expect([reply.status, reply.json['status']]).toEqual([201, 'succeeded']);
  } finally {
    await hasty.close();
  }
});

test('one that is sent again without a wait is answered while the first waits', async () => {
  const letGo = await startHeldWorker();
  const body = tenantBody();
  const headers = { 'idempotency-key': randomUUID() };
  const waits = api.send('/v1/tenants', { body, headers: { ...headers, prefer: 'wait=30' } });
  await until('it is on its way', () => isSlugTaken(world, body.slug));
  const again = await api.send('/v1/tenants', { body, headers });
  expect([again.status, again.json['status']]).toEqual([202, 'running']);
  letGo();
  const first = await waits;
  expect([first.status, first.id]).toEqual([201, again.id]);
});

test('a Prefer header that cannot be understood is ignored', async () => {
  const letGo = await startHeldWorker();
  for (const prefer of ['wait', 'wait=soon', 'wait=-1', 'return=minimal']) {
    const reply = await api.send('/v1/tenants', { body: tenantBody(), headers: { prefer } });
    expect([prefer, reply.status, reply.headers.get('preference-applied')]).toEqual([prefer, 202, null]);
  }
  letGo();
});

test('a client that leaves ends its wait, and the operation goes on', async () => {
  const letGo = await startHeldWorker();
  const leaving = new AbortController();
  const body = tenantBody();
  const waiting = api.send('/v1/tenants', { body, headers: { prefer: 'wait=60' }, signal: leaving.signal });
  const id = await until('it is admitted', async () => {
    const { json } = await api.send(`/v1/tenants?slug=${body.slug}`);
    return (json['items'] as { id: string }[])[0]?.id;
  });
  leaving.abort();
  await expect(waiting).rejects.toThrow();
  const ended = () =>
    api.logged.some(
      (line) => line['msg'] === 'request aborted' || line['msg'] === 'the wait ended without a result',
    );
  await until('the wait has ended', ended);
  letGo();
  await world.temporal.workflow.getHandle(`tenant/${id}`).result();
  expect((await api.send(`/v1/tenants/${id}`)).json['state']).toBe('active');
  // What was asked for it once is not asked anew of a run that may be over.
  const { count } = await world.temporal.workflow.count(`WorkflowId = 'tenant/${id}'`);
  expect(count).toBe(1);
});

test('a process that closes answers those who wait', async () => {
  const letGo = await startHeldWorker();
  const body = tenantBody();
  const waiting = api.send('/v1/tenants', { body, headers: { prefer: 'wait=60' } });
  await until('it is admitted', () => isSlugTaken(world, body.slug));
  api.closing.abort();
  expect((await waiting).json['status']).toBe('running');
  expect((await api.send('/readyz')).status).toBe(503);
  letGo();
});

test('a run carries ids and nothing else that was asked', async () => {
  await startWorker();
  const body = tenantBody({ name: 'Very Secret Name GmbH' });
  const reply = await api.send('/v1/tenants', { body, headers: { prefer: 'wait=30' } });
  const handle = world.temporal.workflow.getHandle(`tenant/${reply.tenantId}`);
  const [description, history] = [await handle.describe(), await handle.fetchHistory()];
  expect(description.memo).toEqual({ operationId: reply.id, attempt: 1 });
  expect(description.searchAttributes).toMatchObject({
    TenantId: [reply.tenantId],
    OperationKind: ['provision'],
    Cell: [world.cell],
    Plan: [body.plan],
  });
  expect(await description.staticSummary()).toBe('Provision a tenant');
  const text = Buffer.from(JSON.stringify(history)).toString();
  const decoded = [...text.matchAll(/"data":"([A-Za-z0-9+/=]+)"/g)].map((match) =>
    Buffer.from(match[1] ?? '', 'base64'),
  );
  for (const secret of ['Very Secret', body.slug]) {
    expect(text).not.toContain(secret);
    expect(Buffer.concat(decoded).toString('latin1')).not.toContain(secret);
  }
});
