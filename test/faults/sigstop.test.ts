/**
 * The worker process stands still (SIGSTOP) while runs stand at every point, for so long that its workflow tasks and attempts
 * are given up; another one brings the runs to their end. Then it goes on where it was.
 */
import { redisMarkerKey } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { type CrashingWorker, startCrashingWorker } from '../support/crash.js';
import { expectActive, expectCanary, expectUndone } from '../support/expect.js';
import { startProvision } from '../support/provision.js';
import { createWorld, type World } from '../support/world.js';

jest.setTimeout(120_000);

const PATIENCE = { step: 60_000, undo: 60_000, attempt: 3_000 };

const FORWARD = [
  'before admitProvision',
  'before admit',
  'after admit',
  'before begin mongo',
  'before gate-set',
  'after begin redis',
  'before createRole',
  'before createUser',
  'before create',
  'before SET',
  'before SETUSER',
  'before finish mongo',
  'after begin verify',
  'before finish verify',
  'before activate',
  'after activate',
];
// Few: whoever stands in an undo keeps a connection to the catalogue.
const BACKWARD = ['before begin undo-redis', 'before dropRole', 'before close'];

let world: World;
let first: CrashingWorker | undefined;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(async () => {
  // One that stands still would outlive a test that took too long.
  first?.end();
  await expectCanary(world);
  await world.close();
});

it('leaves runs that another worker brings to their end, and changes nothing of it when it goes on', async () => {
  const { redis } = await world.dependencies.cells.get(world.cell);
  const points = [...FORWARD, ...BACKWARD];
  const runs = await Promise.all(points.map(async (point) => ({ point, asked: await world.ask() })));
  const fails = ({ point }: { point: string }): boolean => BACKWARD.includes(point);
  for (const { asked } of runs.filter(fails))
    await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
  const plan = runs.map(({ point, asked }) => [lifecycleWorkflowId(asked.tenantId), point]);
  first = startCrashingWorker(world, Object.fromEntries(plan), { stops: true });
  const started = runs.map(({ asked }) =>
    startProvision(world, { ...asked, patience: PATIENCE, workflowTaskTimeout: '3s' }),
  );
  await first.stopped;
  await world.startWorker();
  for (const [i, run] of runs.entries()) {
    const result = (await started[i])?.handle.result();
    if (fails(run)) await expect(result).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
    else expect([run.point, await result]).toEqual([run.point, { status: 'succeeded' }]);
  }

  await first.goOnAndEnd();
  const settled = await Promise.allSettled(
    runs.map((run) =>
      fails(run)
        ? expectUndone(world, run.asked, { status: 'failed', code: 'NAME_TAKEN' })
        : expectActive(world, run.asked),
    ),
  );
  expect(
    settled.flatMap((one, i) =>
      one.status === 'rejected' ? [`${runs[i]?.point}: ${String(one.reason)}`] : [],
    ),
  ).toEqual([]);
});
