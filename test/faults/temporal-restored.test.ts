/** Temporal that comes back from an older backup, or without its data, while the catalogue and the stores have gone on. */
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Api, type Reply, startApi } from '../api/support/api.js';
import { operationId, tenantId } from '../../domain/ids.js';
import { redisMarkerKey } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { newSlugs } from '../support/batch.js';
import { expectActive } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { SHORT, startProvision } from '../support/provision.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

let own: OwnServers<'temporal'>;
let world: World;
let api: Api;
const holds = createHolds();
beforeAll(async () => {
  own = await startOwnServers(['temporal']);
  world = await createWorld(own.world);
  await world.startWorker(holds.stepIn);
  api = await startApi(world);
});
afterAll(async () => {
  await api.close();
  await world.close();
  await own.close();
});

const bodies = newSlugs(5).map((slug) => ({ slug, name: 'Acme', plan: 'team' }));
const [lost, late, over, ...more] = bodies;

it('without its data: what it was at work on is taken up by a retry', async () => {
  const held = [holds.at('before finish mongo'), holds.at('before batchMongo')];
  const one = await api.send('/v1/tenants', { body: lost });
  const batch = await api.send('/v1/tenants:batch', { body: { tenants: more } });
  for (const hold of held) await hold.reached;
  await whileStopped(async () => {
    expect(await retry(one)).toMatchObject({ status: 503, json: { code: 'ENGINE_UNAVAILABLE' } });
    await empty();
  });
  for (const hold of held) hold.release();
  for (const asked of [one, batch]) {
    expect((await api.send(`/v1/operations/${asked.id}`)).json).toMatchObject({ status: 'running' });
    expect(await retried(asked)).toMatchObject({ status: 'succeeded', attempt: 1 });
  }
  await expectActive(world, idsOf(one));
});

it('from an older backup: what is over stays so, and what it knows nothing of is taken up by a retry', async () => {
  const early = await world.ask();
  const { redis } = await world.dependencies.cells.get(world.cell);
  await redis.set(redisMarkerKey(early.tenantId), 'of somebody else');
  const [making, activating] = [
    holds.at('after begin redis', lifecycleWorkflowId(early.tenantId)),
    holds.at('before activate'),
  ];
  const first = await startProvision(world, { ...early, patience: { ...SHORT, attempt: 3_000 } });
  const ended = await api.send('/v1/tenants', { body: over });
  await making.reached;
  await activating.reached;
  const { runId } = await first.handle.describe();
  const backup = await mkdtemp(join(tmpdir(), 'tenantry-backup-'));
  await whileStopped(() => copyData(data(), backup));
  making.release();
  activating.release();
  await expect(first.handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
  await redis.del(redisMarkerKey(early.tenantId));
  await until(
    'it is active',
    async () => (await world.catalogue.tenants.find(idsOf(ended).tenantId))?.state === 'active',
  );
  const held = holds.at('before finish mongo');
  const again = await retry({ id: early.operationId });

  await held.reached;
  const unknown = await api.send('/v1/tenants', { body: late });
  expect([again.status, unknown.status]).toEqual([202, 202]);

  await whileStopped(async () => {
    await empty();
    await copyData(backup, data());
  });
  await rm(backup, { recursive: true });
  held.release();
  expect(await retried(unknown)).toMatchObject({ status: 'succeeded', attempt: 1 });
  // Not before the run of its first attempt, which is there again, has found that it is over.
  expect(await retried({ id: early.operationId })).toMatchObject({ status: 'succeeded', attempt: 2 });
  const stale = world.temporal.workflow.getHandle(lifecycleWorkflowId(early.tenantId), runId);
  await expect(stale.result()).rejects.toMatchObject({ cause: { type: 'STALE_GENERATION' } });
  const run = world.temporal.workflow.getHandle(lifecycleWorkflowId(idsOf(ended).tenantId));
  expect(await run.result()).toEqual({ status: 'succeeded' });
  for (const asked of [idsOf(ended), idsOf(unknown), early]) await expectActive(world, asked);
});

async function whileStopped(work: () => Promise<void>): Promise<void> {
  await own.servers.temporal.kill();
  await work();
  await own.servers.temporal.start();
}

const data = (): string => join(own.dataOf('temporal'), 'temporal');

const databaseIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder)).filter((name) => name.startsWith('temporal.db'));

async function empty(): Promise<void> {
  for (const name of await databaseIn(data())) await rm(join(data(), name));
}

async function copyData(from: string, to: string): Promise<void> {
  for (const name of await databaseIn(from)) await copyFile(join(from, name), join(to, name));
}

const retry = ({ id }: { id: string }, wait = 0): Promise<Reply> =>
  api.send(`/v1/operations/${id}:retry`, {
    method: 'POST',
    headers: wait === 0 ? {} : { prefer: `wait=${wait}` },
  });

/** As soon as Temporal can be reached, and has no other run of the tenant any more. */
const retried = (asked: { id: string }) =>
  until('it is taken up', async () => {
    const { status, json } = await retry(asked, 30);
    return status !== 503 && status !== 409 && json;
  });

const idsOf = (reply: Reply) => ({
  operationId: operationId(reply.id),
  tenantId: tenantId(reply.tenantId),
});
