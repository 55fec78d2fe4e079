/** What is expected of runs and workers when one of the stores is away, whichever it is. */
import { redisMarkerKey } from '../../../domain/names.js';
import type { RunningServer } from '../../../local/server.js';
import { startCrashingWorker } from '../../support/crash.js';
import { expectActive, expectCanary } from '../../support/expect.js';
import type { createHolds } from '../../support/holds.js';
import { startProvision } from '../../support/provision.js';
import {
  type Ending,
  expectEnds,
  expectWhole,
  finishedRun,
  letGoOn,
  runTo,
  type StandingRun,
  untilAgreed,
  untilRecorded,
} from '../../support/runs.js';
import { until } from '../../support/until.js';
import type { World } from '../../support/world.js';

export const PATIENCE = { step: 60_000, undo: 60_000, attempt: 10_000 };

export interface Site {
  readonly world: World;
  /** Those of a worker of the world. */
  readonly holds: ReturnType<typeof createHolds>;
  readonly server: RunningServer;
  /** The store whose steps need the server. */
  readonly step: 'postgres' | 'mongo' | 'redis';
}

const runAt = (site: Site, point: string, ending: Ending = 'ends well', patience = PATIENCE) =>
  runTo({ ...site, patience }, point, ending);

/** Killed while runs stand at every step that needs it: they wait for it, say why, and end as they would have. */
export async function expectWaitedFor(site: Site): Promise<void> {
  const { world, server, step } = site;
  const before = await finishedRun(world);
  const waiting = [
    await runAt(site, `after begin ${step}`),
    await runAt(site, 'after begin verify'),
    await runAt(site, `after begin undo-${step}`, 'fails'),
  ];
  // These are the catalogue's alone: the effect is made and not recorded; all is proved and not activated.
  const made = await runAt(site, `before finish ${step}`);
  const unaffected = await runAt(site, 'before activate');

  await server.kill();
  letGoOn([...waiting, made, unaffected]);
  expect(await (await unaffected.started).handle.result()).toEqual({ status: 'succeeded' });
  await untilRecorded(waiting, 'STORE_UNAVAILABLE');
  await server.start();
  await expectEnds([...waiting, made]);
  // Redis has forgotten its users: they are made again without anybody asking.
  for (const asked of [before, unaffected.asked]) await expectWhole(world, asked);
}

/** Away for longer than an undo may take: what is left is reported and in the ledger, and a retry takes it up. */
export async function expectResidueTakenUp(site: Site): Promise<void> {
  const { world, server, step } = site;
  const patience = { ...PATIENCE, undo: 2_000, attempt: 1_000 };
  const run = await runAt(site, `after begin undo-${step}`, 'fails', patience);
  await server.kill();
  run.hold.release();
  await expect(run.handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
  const operation = await world.catalogue.operations.find(run.asked.operationId);
  expect(operation).toMatchObject({ status: 'failed', error: { code: 'NAME_TAKEN' } });
  expect(new Set(operation?.residue.map((residue) => residue.store))).toEqual(new Set([step]));
  expect(await world.catalogue.tenants.find(run.asked.tenantId)).toMatchObject({ state: 'failed' });

  await server.start();
  const { redis } = await world.dependencies.cells.get(world.cell);
  await until('Redis answers', () => redis.ping().catch(() => undefined));
  await redis.del(redisMarkerKey(run.asked.tenantId));
  // An undo that was given up may still be at work; what it removes it says.
  await untilAgreed(world, run.asked);
  const { handle } = await startProvision(world, { ...run.asked, attempt: 2, patience: PATIENCE });
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, run.asked);
}

/** It stands still for longer than an attempt may take: what was tried twice is there once. */
export async function expectOnceThoughTwice(
  site: Omit<Site, 'step'>,
  forward: readonly string[],
  backward: readonly string[],
): Promise<void> {
  const patience = { ...PATIENCE, attempt: 700 };
  const runs: StandingRun[] = [];
  for (const point of forward) runs.push(await runTo({ ...site, patience }, point));
  for (const point of backward) runs.push(await runTo({ ...site, patience }, point, 'fails'));
  site.server.pause();
  letGoOn(runs);
  for (const { point, handle } of runs)
    await until(`${point}: another attempt is made`, async () => {
      const { raw } = await handle.describe();
      return raw.pendingActivities?.some(({ attempt }) => (attempt ?? 1) >= 2);
    });
  site.server.resume();
  await expectEnds(runs);
}

/** A worker process that starts while it is away: no tenant is admitted before the cell is prepared. */
export async function expectAdmittedWhenThere(world: World, server: RunningServer): Promise<void> {
  await server.kill();
  const worker = startCrashingWorker(world, {});
  try {
    const asked = await world.ask();
    const { admission } = await startProvision(world, asked);
    await expect(admission).rejects.toMatchObject({ cause: { type: 'CELL_NOT_READY' } });
    await server.start();
    await until('the cell is prepared', async () => {
      const cell = await world.catalogue.cells.find(world.cell);
      return cell?.preparedAt;
    });
    const again = await world.ask();
    const { handle } = await startProvision(world, again);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, again);
    await expectCanary(world);
  } finally {
    worker.end();
    await worker.killed;
  }
}
