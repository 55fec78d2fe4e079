/** An admission that is asked for with the end (FINISH), when what answers, or what it needs for that, is not all there. */
import { pino } from 'pino';
import { admit, type Start } from '../../api/admit';
import type { ApiDeps } from '../../api/deps';
import { batchStart, provisionStart } from '../../api/starts';
import { type Catalogue, openCatalogue } from '../../catalogue/index';
import { readConfig } from '../../domain/config';
import { askForBatch, newSlugs } from '../support/batch';
import { createHolds } from '../support/holds';
import { createWorld, type World } from '../support/world';
import { proxyTo } from './support/proxy';

const log = pino({ level: 'silent' });
const stays = new AbortController().signal;
const holds = createHolds();
let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker(holds.stepIn);
});
afterAll(() => world?.close());

function depsOf(admissionTimeout: number, catalogue: Catalogue = world.catalogue): ApiDeps {
  const config = readConfig(
    [
      'TENANTRY_API_TOKEN',
      'TENANTRY_API_BODY_LIMIT',
      'TENANTRY_ADMISSION_TIMEOUT_MS',
      'TENANTRY_TEMPORAL_TASK_QUEUE',
    ],
    { ...world.env, TENANTRY_ADMISSION_TIMEOUT_MS: String(admissionTimeout) },
  );
  return { catalogue, temporal: world.temporal, manifest: world.manifest, config, logger: log };
}

const runsOf = async ({ workflowId }: Start): Promise<number> =>
  (await world.temporal.workflow.count(`WorkflowId = '${workflowId}'`)).count;

const updatesOf = async ({ workflowId }: Start): Promise<(string | null | undefined)[]> => {
  const { events } = await world.temporal.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).flatMap((event) => {
    const accepted = event.workflowExecutionUpdateAcceptedEventAttributes;
    return accepted ? [accepted.acceptedRequest?.input?.name] : [];
  });
};

test('a run that does not know of it refuses it, keeps nothing of it, and is asked for its admission', async () => {
  const operationId = await askForBatch(world, newSlugs(2));
  const older = { ...batchStart(operationId, 1), finishes: true };
  expect(await admit(depsOf(10_000), older, log, stays)).toBe('admitted');
  expect(await updatesOf(older)).toEqual(['admit']);
  await world.temporal.workflow.getHandle(older.workflowId).result();
  expect(await runsOf(older)).toBe(1);
});

test('a run that goes on is known to be admitted, though the catalogue says nothing', async () => {
  const url = new URL(world.url('control', 'catalogue'));
  const between = await proxyTo(url.hostname, Number(url.port));
  url.hostname = '127.0.0.1';
  url.port = String(between.port);
  const catalogue = openCatalogue({ url: url.href, name: 'test-waiting', max: 2 });
  try {
    const { tenantId, operationId } = await world.ask();
    const start = provisionStart(tenantId, operationId, 1);
    const hold = holds.at('before begin mongo', start.workflowId);
    between.hang();
    const began = performance.now();
    expect(await admit(depsOf(2_000, catalogue), start, log, stays)).toBe('admitted');
    expect(performance.now() - began).toBeLessThan(2_000);
    hold.release();
    expect(await world.temporal.workflow.getHandle(start.workflowId).result()).toEqual({
      status: 'succeeded',
    });
    expect(await runsOf(start)).toBe(1);
    expect(await updatesOf(start)).toEqual(['finish', 'admit']);
  } finally {
    between.cut();
    await catalogue.close();
    await between.close();
  }
});

test('whoever has had enough before it began is told of the admission', async () => {
  const { tenantId, operationId } = await world.ask();
  const start = provisionStart(tenantId, operationId, 1);
  expect(await admit(depsOf(10_000), start, log, AbortSignal.abort())).toBe('admitted');
  await world.temporal.workflow.getHandle(start.workflowId).result();
  expect(await runsOf(start)).toBe(1);
});
