/** A retry whose caller was told that it did not happen, as Temporal was lost while it was being asked. */
import { ApplicationFailure } from '@temporalio/common';
import { type Api, startApi } from '../api/support/api.js';
import { newSlugs } from '../support/batch.js';
import { openLink } from '../support/link.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
let link: Awaited<ReturnType<typeof openLink>>;
let api: Api;
beforeAll(async () => {
  world = await createWorld();
  link = await openLink(`tcp://${world.stack.temporalAddress}`);
  api = await startApi(world, { temporalAddress: new URL(link.url).host, admissionTimeout: 4_000 });
});
afterAll(async () => {
  await api.close();
  await link.close();
  await world.close();
});

const [one, ...more] = newSlugs(3).map((slug) => ({ slug, name: 'Acme', plan: 'team' }));

it.each([
  ['a tenant', '/v1/tenants', one],
  ['a batch', '/v1/tenants:batch', { tenants: more }],
])('of %s is not carried out when a worker comes, and can be asked for again', async (_of, path, body) => {
  const id = await failed(path, body);
  const retry = (wait?: number) =>
    api.send(`/v1/operations/${id}:retry`, {
      method: 'POST',
      ...(wait === undefined ? {} : { headers: { prefer: `wait=${wait}` } }),
    });
  const retrying = retry();
  const run = await until('its run is there', () => runOf(id));
  link.leadTo('tcp://127.0.0.1:1');
  link.cut();
  expect(await retrying).toMatchObject({ status: 503, json: { code: 'ENGINE_UNAVAILABLE' } });

  const worker = await world.startWorker();
  expect(await run.result()).toEqual({ status: 'refused' });
  expect(await world.catalogue.operations.find(id)).toMatchObject({ status: 'failed' });
  expect(await world.catalogue.operations.wasAdmitted(id, 2)).toBe(false);
  link.leadTo(`tcp://${world.stack.temporalAddress}`);
  expect(await retry(30)).toMatchObject({ json: { status: 'succeeded', attempt: 3 } });
  await worker.stop();
});

type OperationId = Parameters<World['catalogue']['operations']['find']>[0];

/** @returns an operation that has failed, of which no worker knows */
async function failed(path: string, body: unknown): Promise<OperationId> {
  const refuse = (): Promise<never> =>
    Promise.reject(
      ApplicationFailure.create({
        type: 'STORE_REFUSED',
        nonRetryable: true,
        details: [{ store: 'Redis', reason: 'NOPERM' }],
      }),
    );
  const worker = await world.startWorker({
    activities: { ...world.activities, provisionRedis: refuse, batchRedis: refuse },
  });
  const { json } = await api.send(path, { body, headers: { prefer: 'wait=30' } });
  await worker.stop();
  expect(json).toMatchObject({ status: 'failed' });
  return json['id'] as OperationId;
}

async function runOf(operationId: OperationId) {
  const query = `TaskQueue = '${world.taskQueue}' AND ExecutionStatus = 'Running'`;
  for await (const { workflowId, memo } of world.temporal.workflow.list({ query }))
    if (memo?.['operationId'] === operationId) return world.temporal.workflow.getHandle(workflowId);
  return undefined;
}
