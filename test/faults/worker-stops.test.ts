/** A worker process that is told to stop while the catalogue does not answer: it ends, and another goes on with its runs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { expectActive } from '../support/expect.js';
import { openLink } from '../support/link.js';
import { startProvision } from '../support/provision.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

/** `main` of the worker, as it was built before the tests. */
const MAIN = join(__dirname, '..', '..', 'dist', 'test', 'support', 'crash-worker.js');

const GRACE = 500;
/** For what is cut off, and for closing (docs/operations.md); and some for a busy machine. */
const BOUND = GRACE + 5_000 + 3_000 + 6_000;

let world: World;
let link: Awaited<ReturnType<typeof openLink>>;
let worker: ChildProcess | undefined;
beforeAll(async () => {
  world = await createWorld();
});
afterEach(async () => {
  worker?.kill('SIGKILL');
  await link.close();
});
afterAll(() => world.close());

test.each([
  ['is away', () => link.leadTo('postgres://127.0.0.1:1')],
  ['hangs', () => undefined],
])('it ends while the catalogue %s', async (how, lose) => {
  link = await openLink(world.url('control', 'catalogue'));
  const taskQueue = `${world.taskQueue}-${how.replace(' ', '-')}`;
  const { child, exited } = await startedWorker(taskQueue, link.url);
  lose();
  if (how === 'hangs') link.hold();
  else link.cut();
  const asked = await world.ask();
  const starting = startProvision(world, { ...asked, taskQueue, workflowTaskTimeout: '2 seconds' });
  const run = world.temporal.workflow.getHandle(lifecycleWorkflowId(asked.tenantId));
  await until('the worker has the run', async () => {
    const { events } = await run.fetchHistory().catch(() => ({ events: [] }));
    return events?.some((event) => event.workflowTaskStartedEventAttributes);
  });
  child.kill('SIGTERM');
  expect(await exited).toBe(1);
  const successor = await world.startWorker({ taskQueue });
  expect(await (await starting).handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
  await successor.stop();
});

async function startedWorker(taskQueue: string, catalogueUrl: string) {
  const child = spawn(process.execPath, [MAIN], {
    env: {
      ...process.env,
      ...world.env,
      TENANTRY_TEMPORAL_TASK_QUEUE: taskQueue,
      TENANTRY_CATALOGUE_URL: catalogueUrl,
      TENANTRY_WORKER_SHUTDOWN_MS: String(GRACE),
      TENANTRY_LOG_LEVEL: 'info',
      TENANTRY_TEST_CRASH: JSON.stringify({ points: { none: 'never' }, bundlePath: world.stack.bundlePath }),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  worker = child;
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  await until('it is prepared', () => said.includes('the cells are prepared'));
  const exited = once(child, 'exit', { signal: AbortSignal.timeout(BOUND) }).then(([code]) => code as number);
  exited.catch(() => undefined);
  return { child, exited };
}
