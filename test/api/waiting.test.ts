/** An admission that is asked for with the end (FINISH), when what answers, or what it needs for that, is not all there. */
import { pino } from 'pino';
import { admit } from '../../api/admit.js';
import type { ApiDeps } from '../../api/deps.js';
import { batchStart, provisionStart, type Start } from '../../api/starts.js';
import { createTemporalClient } from '../../api/temporal.js';
import { type Catalogue, openCatalogue } from '../../catalogue/index.js';
import { readConfig } from '../../domain/config.js';
import { askForBatch, newSlugs } from '../support/batch.js';
import { createHolds } from '../support/holds.js';
import { createWorld, type World } from '../support/world.js';
import { type Proxy, proxyBefore, proxyTo } from './support/proxy.js';

const log = pino({ level: 'silent' });
const stays = new AbortController().signal;
const holds = createHolds();
let world: World;
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker(holds.stepIn);
});
afterAll(() => world?.close());

function depsOf(admissionTimeout: number): ApiDeps {
  const config = readConfig(
    [
      'TENANTRY_API_TOKEN',
      'TENANTRY_API_BODY_LIMIT',
      'TENANTRY_ADMISSION_TIMEOUT_MS',
      'TENANTRY_TEMPORAL_TASK_QUEUE',
    ],
    { ...world.env, TENANTRY_ADMISSION_TIMEOUT_MS: String(admissionTimeout) },
  );
  const { catalogue, temporal, manifest } = world;
  return { catalogue, temporal, manifest, config, logger: log };
}

const resultOf = ({ workflowId }: Start): Promise<unknown> =>
  world.temporal.workflow.getHandle(workflowId).result();

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
  const older = { ...batchStart(operationId, 1, undefined), finishes: true };
  expect(await admit(depsOf(10_000), older, log, stays)).toBe('admitted');
  expect(await updatesOf(older)).toEqual(['admit']);
  await resultOf(older);
  expect(await runsOf(older)).toBe(1);
});

async function catalogueBehind(): Promise<{ proxy: Proxy; catalogue: Catalogue }> {
  const { proxy, url } = await proxyBefore(world.url('control', 'catalogue'));
  return { proxy, catalogue: openCatalogue({ url, name: 'test-waiting', max: 2 }) };
}

test('a run that goes on is known to be admitted, though the catalogue says nothing', async () => {
  const { proxy, catalogue } = await catalogueBehind();
  try {
    const { tenantId, operationId } = await world.ask();
    const start = provisionStart(tenantId, operationId, 1, undefined);
    const hold = holds.at('before begin mongo', start.workflowId);
    proxy.hang();
    expect(await admit({ ...depsOf(2_000), catalogue }, start, log, stays)).toBe('admitted');
    hold.release();
    expect(await resultOf(start)).toEqual({ status: 'succeeded' });
    expect(await runsOf(start)).toBe(1);
    expect(await updatesOf(start)).toEqual(['finish', 'admit']);
  } finally {
    proxy.cut();
    await catalogue.close();
    await proxy.close();
  }
});

test('a run that has ended is not told as withdrawn, though neither it nor the catalogue could be asked', async () => {
  const { proxy, catalogue } = await catalogueBehind();
  const [host = '', port] = world.stack.temporalAddress.split(':');
  const link = await proxyTo(host, Number(port));
  const temporal = createTemporalClient({
    TENANTRY_TEMPORAL_ADDRESS: `127.0.0.1:${link.port}`,
    TENANTRY_TEMPORAL_NAMESPACE: world.temporal.options.namespace,
    TENANTRY_TEMPORAL_TLS: false,
    TENANTRY_TEMPORAL_API_KEY: undefined,
  });
  // Temporal is back when the API turns to taking the request back, which the catalogue keeps it from.
  const heard = pino(
    {},
    {
      write: (line: string) => {
        if (line.includes('the admission did not come back')) link.restore();
      },
    },
  );
  try {
    const { tenantId, operationId } = await world.ask();
    const start = provisionStart(tenantId, operationId, 1, undefined);
    const hold = holds.at('before begin mongo', start.workflowId);
    const admitted = admit({ ...depsOf(20_000), temporal, catalogue }, start, heard, stays);
    await hold.reached;
    proxy.hang();
    link.cut();
    hold.release();
    expect(await resultOf(start)).toEqual({ status: 'succeeded' });
    expect(await admitted).toBe('admitted');
    expect(await runsOf(start)).toBe(1);
  } finally {
    proxy.cut();
    await Promise.all([catalogue.close(), temporal.connection.close()]);
    await Promise.all([proxy.close(), link.close()]);
  }
});

test('whoever has had enough before it began is told of the admission', async () => {
  const { tenantId, operationId } = await world.ask();
  const start = provisionStart(tenantId, operationId, 1, undefined);
  expect(await admit(depsOf(10_000), start, log, AbortSignal.abort())).toBe('admitted');
  await resultOf(start);
  expect(await runsOf(start)).toBe(1);
});
