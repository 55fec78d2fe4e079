/** Admissions that their caller has given up while they were at work, in ways in which the catalogue cannot be asked. */
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { startApi } from '../api/support/api.js';
import { newSlugs } from '../support/batch.js';
import { expectNeverWas } from '../support/expect.js';
import { signal } from '../support/holds.js';
import { openLink } from '../support/link.js';
import { steppingIn } from '../support/points.js';
import { SHORT, startProvision } from '../support/provision.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

/** Longer than an admission may take without being late (activities/lifecycle.ts). */
const ADMISSION_TIMEOUT = 1_200;

describe('a 503 of an API that alone has lost the catalogue', () => {
  let link: Awaited<ReturnType<typeof openLink>>;
  let api: Awaited<ReturnType<typeof startApi>>;
  let worker: Awaited<ReturnType<World['startWorker']>>;
  let reached: (workflowId: string) => void;
  let held = signal();
  beforeAll(async () => {
    worker = await world.startWorker(
      steppingIn(async (point, workflowId) => {
        if (!/^before admit(Provision|Batch)$/.test(point)) return;
        reached(workflowId ?? '');
        await held.given;
      }),
    );
    link = await openLink(world.url('control', 'catalogue'));
    api = await startApi(world, { admissionTimeout: ADMISSION_TIMEOUT, catalogueUrl: link.url });
  });
  afterAll(async () => {
    await api.close();
    await link.close();
    await worker.stop();
  });

  const [one, ...more] = newSlugs(4).map((slug) => ({ slug, name: 'Acme', plan: 'team' }));
  it.each([
    ['one tenant', '/v1/tenants', one],
    ['a batch', '/v1/tenants:batch', { tenants: more }],
  ])('leaves nothing of %s, whose admission was at work', async (_of, path, body) => {
    held = signal();
    const atWork = new Promise<string>((resolve) => {
      reached = resolve;
    });
    const sending = api.send(path, { body });
    const run = world.temporal.workflow.getHandle(await atWork);
    link.leadTo('postgres://127.0.0.1:1');
    link.cut();
    expect(await sending).toMatchObject({ status: 503, json: { code: 'ADMISSION_TIMEOUT' } });
    held.give();
    expect(await run.result()).toEqual({ status: 'withdrawn' });
    link.leadTo(world.url('control', 'catalogue'));
    expect(await api.send(path, { body })).toMatchObject({ status: 202 });
  });
});

it('an admission is withdrawn when its run is cancelled while an attempt at it hangs', async () => {
  const asked = await world.ask();
  const [trying, hanging] = [signal(), signal()];
  const worker = await world.startWorker(
    steppingIn(async (point) => {
      if (point !== 'before admit') return;
      trying.give();
      await hanging.given;
    }),
  );
  const starting = startProvision(world, { ...asked, patience: SHORT, workflowTaskTimeout: '1 second' });
  await trying.given;
  await world.temporal.workflow.getHandle(lifecycleWorkflowId(asked.tenantId)).cancel();
  const { handle } = await starting;
  expect(await handle.result()).toEqual({ status: 'withdrawn' });
  await expectNeverWas(world, asked);
  hanging.give();
  await worker.stop();
  // What hung found that the request is no longer there.
  await expectNeverWas(world, asked);
});
