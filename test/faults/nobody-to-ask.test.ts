/** An API that loses Temporal and the catalogue at once, while its request is with a worker that has both. */
import { ApplicationFailure } from '@temporalio/common';
import { type Api, type Reply, startApi } from '../api/support/api.js';
import { countRows } from '../api/support/rows.js';
import { newSlugs } from '../support/batch.js';
import { createHolds } from '../support/holds.js';
import { openLink } from '../support/link.js';
import { until } from '../support/until.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';

type Link = Awaited<ReturnType<typeof openLink>>;

let world: World;
let links: Record<'temporal' | 'catalogue', Link>;
let api: Api;
let worker: RunningWorker;
const holds = createHolds();
beforeAll(async () => {
  world = await createWorld();
  links = {
    temporal: await openLink(`tcp://${world.stack.temporalAddress}`),
    catalogue: await openLink(world.url('control', 'catalogue')),
  };
  api = await startLinkedApi(2_000);
});
afterEach(() => worker.stop());
afterAll(async () => {
  await api.close();
  await links.temporal.close();
  await links.catalogue.close();
  await world.close();
});

const startLinkedApi = (admissionTimeout: number): Promise<Api> =>
  startApi(world, {
    temporalAddress: new URL(links.temporal.url).host,
    catalogueUrl: links.catalogue.url,
    admissionTimeout,
  });

const tenants = newSlugs(5).map((slug) => ({ slug, name: 'Acme', plan: 'team' }));
const [one, retried, last, ...more] = tenants;

describe('what its caller was told did not happen does not happen', () => {
  it.each([
    ['a tenant', '/v1/tenants', one, 'before admitProvision'],
    ['a batch', '/v1/tenants:batch', { tenants: more }, 'before admitBatch'],
  ])('of a request for %s', async (_of, path, body, point) => {
    worker = await world.startWorker(holds.stepIn);
    const before = await countRows(world);
    await expectForgotten(point, () => api.send(path, { body }));
    expect(await countRows(world)).toEqual(before);
    await expectSuccess(() => api.send(path, { body, headers: { prefer: 'wait=30' } }));
  });

  it('of a retry', async () => {
    const refuse = (): Promise<never> =>
      Promise.reject(
        ApplicationFailure.create({
          type: 'STORE_REFUSED',
          nonRetryable: true,
          details: [{ store: 'Redis', reason: 'NOPERM' }],
        }),
      );
    const failing = await world.startWorker({ activities: { ...world.activities, provisionRedis: refuse } });
    worker = failing;
    const { id } = await api.send('/v1/tenants', { body: retried, headers: { prefer: 'wait=30' } });
    await failing.stop();
    worker = await world.startWorker(holds.stepIn);
    const retry = (headers = {}): Promise<Reply> =>
      api.send(`/v1/operations/${id}:retry`, { method: 'POST', headers });
    await expectForgotten('before admitProvision', retry);
    expect((await api.send(`/v1/operations/${id}`)).json).toMatchObject({ status: 'failed', attempt: 1 });
    await expectSuccess(() => retry({ prefer: 'wait=30' }));
  });

  async function expectForgotten(point: string, ask: () => Promise<Reply>): Promise<void> {
    const hold = holds.at(point);
    const asking = ask();
    await hold.reached;
    const run = await until('its run is there', runningOne);
    const giveBack = lose('temporal', 'catalogue');
    expect(await asking).toMatchObject({ status: 503, json: { code: 'ENGINE_UNAVAILABLE' } });
    hold.release();
    expect(await run.result()).toEqual({ status: 'refused' });
    giveBack();
  }
});

it('a run that is over when the catalogue is lost says what became of it', async () => {
  worker = await world.startWorker(holds.stepIn);
  // In half of the time the run has to be over, also on a machine with other work.
  const patient = await startLinkedApi(10_000);
  const hold = holds.at('before activateTenant');
  const asking = patient.send('/v1/tenants', { body: last, headers: { prefer: 'wait=30' } });
  await hold.reached;
  const run = await until('its run is there', runningOne);
  links.temporal.hold();
  hold.release();
  expect(await run.result()).toEqual({ status: 'succeeded' });
  const giveBack = lose('catalogue');
  await until('its end is not waited for any more', () =>
    patient.logged.some(({ msg }) => msg === 'the end did not come with the admission'),
  );
  links.temporal.cut();
  expect(await asking).toMatchObject({ status: 202 });
  giveBack();
  await patient.close();
});

/** Soon: the API's connections come back by themselves. */
async function expectSuccess(ask: () => Promise<Reply>): Promise<void> {
  const reply = await until('they are back', async () => {
    const answer = await ask();
    return answer.status !== 503 && answer;
  });
  expect(reply.json).toMatchObject({ status: 'succeeded' });
}

function lose(...names: (keyof typeof links)[]): () => void {
  const ways = {
    temporal: `tcp://${world.stack.temporalAddress}`,
    catalogue: world.url('control', 'catalogue'),
  };
  for (const name of names) {
    links[name].leadTo('tcp://127.0.0.1:1');
    links[name].cut();
  }
  return () => {
    for (const name of names) links[name].leadTo(ways[name]);
  };
}

async function runningOne() {
  const query = `TaskQueue = '${world.taskQueue}' AND ExecutionStatus = 'Running'`;
  for await (const { workflowId } of world.temporal.workflow.list({ query }))
    return world.temporal.workflow.getHandle(workflowId);
  return undefined;
}
