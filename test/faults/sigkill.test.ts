/**
 * The worker process is killed (SIGKILL) while runs stand at every point; another one, that knows nothing of it, goes
 * on. Whatever the point, the end is the same as without the death, and every effect is there exactly once.
 */
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { redisMarkerKey } from '../../domain/names.js';
import { startCrashingWorker } from '../support/crash.js';
import { expectActive, expectCanary, expectUndone } from '../support/expect.js';
import { startProvision } from '../support/provision.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';

// A machine that has much else to do takes its time.
jest.setTimeout(120_000);

/** Temporal refuses updates of a run whose workflow tasks timed out three times; a slow machine needs over 1 s for some. */
const WORKFLOW_TASK_TIMEOUT = '6s';

/** Short, so that a task which died with its worker is soon somebody else's. */
const PATIENCE = { step: 60_000, undo: 60_000, attempt: 3_000 };

const FORWARD = [
  // The local activities, whose death takes the workflow task with it.
  'before admitProvision',
  'before admit',
  'after admit',
  'after admitProvision',
  // Each step: not begun, begun, effect without record, recorded but not reported.
  ...['postgres', 'mongo', 'redis', 'verify'].flatMap((step) => [
    `before begin ${step}`,
    `after begin ${step}`,
    `before finish ${step}`,
    `after finish ${step}`,
  ]),
  // In the middle of an effect.
  'before gate-set',
  'after gate-set',
  'after create',
  'after createIndexes',
  'after createRole',
  'after createUser',
  'after SET', // the marker is there, the ACL user is not
  'after SETUSER',
  'after provisionPostgres',
  'after provisionMongo',
  'after provisionRedis',
  'after verifyTenant',
  'before activate',
  'after activate',
  'after activateTenant',
];

const undoing = (store: string): string[] => [
  `before begin undo-${store}`,
  `after begin undo-${store}`,
  `before undo undo-${store}`,
  `after undo undo-${store}`, // removed, not recorded
  `after finish undo-${store}`,
];

/**
 * Not all at once: whoever stands in an undo keeps a connection to the catalogue, and so does each further attempt, which
 * waits for it. Those must not run out before the last has come to its point.
 */
const BACKWARD = [
  [
    'in Redis or MongoDB',
    [
      ...undoing('redis'),
      ...undoing('mongo'),
      'after DELUSER',
      'after dropRole',
      'after dropDatabase',
      'after dropUser',
    ],
  ],
  [
    'in PostgreSQL or at the end',
    [
      ...undoing('postgres'),
      'before gate-close',
      'after gate-close',
      'after COMMIT', // the rows are deleted, the gate is left
      'before close',
      'after close',
      'after closeOperation',
    ],
  ],
] as const;

/** In the transaction that erases rows; apart from the others, as each keeps one of that role's two connections. */
const ERASING = ['before BEGIN', 'before COMMIT'];

describe('a worker that is killed', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
  });
  afterEach(async () => {
    await successor?.stop();
    await expectCanary(world);
  });
  afterAll(() => world.close());

  it('leaves provisionings that another worker brings to their end, at whatever point they were', async () => {
    const runs = await dieAndGoOn(world, FORWARD);
    await eachOf(runs, async ({ asked, started }) => {
      const { admission, handle } = await started;
      expect(await admission).toMatchObject({ tenantId: asked.tenantId, generation: 1 });
      expect(await handle.result()).toEqual({ status: 'succeeded' });
      await expectActive(world, asked);
    });
  });

  it.each([...BACKWARD, ['in the transaction that erases', ERASING] as const])(
    'leaves undos that another worker brings to their end, at whatever point they were %s',
    async (_where, points) => {
      const { redis } = await world.dependencies.cells.get(world.cell);
      const runs = await dieAndGoOn(world, points, async ({ tenantId }) => {
        // Not ours, so that provisioning fails for good when it meets it.
        await redis.set(redisMarkerKey(tenantId), 'of somebody else');
      });
      await eachOf(runs, async ({ asked, started }) => {
        const { handle } = await started;
        await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
        await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
        expect(await redis.getdel(redisMarkerKey(asked.tenantId))).toBe('of somebody else');
      });
    },
  );
});

/** The worker that went on; it ends with its test. */
let successor: RunningWorker | undefined;

type Asked = Awaited<ReturnType<World['ask']>>;

interface Run {
  readonly point: string;
  readonly asked: Asked;
  readonly started: ReturnType<typeof startProvision>;
}

/** A run for each point, the death of their worker when all are there, and another worker. */
async function dieAndGoOn(
  world: World,
  points: readonly string[],
  prepare: (asked: Asked) => Promise<void> = async () => undefined,
): Promise<Run[]> {
  const asked = await Promise.all(points.map(async (point) => ({ point, asked: await world.ask() })));
  for (const { asked: one } of asked) await prepare(one);
  const plan = asked.map(({ point, asked: one }) => [lifecycleWorkflowId(one.tenantId), point]);
  const crashing = startCrashingWorker(world, Object.fromEntries(plan));
  try {
    const runs = asked.map((one) => ({
      ...one,
      started: startProvision(world, {
        ...one.asked,
        patience: PATIENCE,
        workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT,
      }),
    }));
    await crashing.killed;
    successor = await world.startWorker();
    return runs;
  } finally {
    crashing.end();
  }
}

/** A failure names its point, and the others still have their turn. */
async function eachOf(runs: readonly Run[], check: (run: Run) => Promise<void>): Promise<void> {
  const settled = await Promise.allSettled(runs.map(check));
  const failures = settled.flatMap((one, i) =>
    one.status === 'rejected' ? [`killed ${runs[i]?.point}: ${String(one.reason)}`] : [],
  );
  expect(failures).toEqual([]);
}
