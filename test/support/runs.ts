/** Runs that are held at a point each, and what is expected of their ends. */
import type { Patience } from '../../domain/contracts.js';
import { redisMarkerKey } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { expectAgreement } from './agreement.js';
import { expectActive, expectUndone } from './expect.js';
import type { createHolds } from './holds.js';
import { startProvision } from './provision.js';
import { stepsOf } from './recorded.js';
import type { Asked } from './steps.js';
import { until } from './until.js';
import type { World } from './world.js';

/** `fails`: it meets a foreign thing in Redis, and is undone. */
export type Ending = 'ends well' | 'fails';
export type StandingRun = Awaited<ReturnType<typeof runTo>>;

interface Standing {
  readonly world: World;
  /** Those of a worker of the world. */
  readonly holds: ReturnType<typeof createHolds>;
  readonly patience: Patience;
}

/** A run that stands at the point. */
export async function runTo(
  { world, holds, patience }: Standing,
  point: string,
  ending: Ending = 'ends well',
) {
  const asked = await world.ask();
  if (ending === 'fails') {
    const { redis } = await world.dependencies.cells.get(world.cell);
    await until('Redis answers', () => redis.ping().catch(() => undefined));
    await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
  }
  const id = lifecycleWorkflowId(asked.tenantId);
  const hold = holds.at(point, id);
  const started = startProvision(world, { ...asked, patience, workflowTaskTimeout: '2s' });
  // Its caller may be told anything while a server is away; the run is what counts.
  started.catch(() => undefined);
  await hold.reached;
  return { world, point, ending, asked, hold, started, handle: world.temporal.workflow.getHandle(id) };
}

export function letGoOn(runs: readonly StandingRun[]): void {
  for (const { hold } of runs) hold.release();
}

/** Until the attempt at each run's step has failed with this code, as the catalogue and the API say it. */
export async function untilRecorded(runs: readonly StandingRun[], code: string): Promise<void> {
  for (const { world, asked, point } of runs) {
    await until(`${point}: ${code} is recorded`, async () => {
      const steps = await stepsOf(world, asked.operationId);
      return steps.some(({ name, lastError }) => point.endsWith(name) && lastError?.code === code);
    });
    expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({ status: 'running' });
  }
}

/** Each as it would have ended if nothing had happened. */
export async function expectEnds(runs: readonly StandingRun[]): Promise<void> {
  const settled = await Promise.allSettled(runs.map(expectEnd));
  const failures = settled.flatMap((one, i) =>
    one.status === 'rejected' ? [`${runs[i]?.point}: ${String(one.reason)}`] : [],
  );
  expect(failures).toEqual([]);
}

async function expectEnd({ world, asked, ending, handle }: StandingRun): Promise<void> {
  if (ending === 'ends well') {
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectWhole(world, asked);
  } else {
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
    await untilAgreed(world, asked);
    await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
  }
}

/** Now or soon: a server that has just come back may still be told what it forgot. */
export async function expectWhole(world: World, asked: Asked): Promise<void> {
  await untilAgreed(world, asked);
  await expectActive(world, asked);
}

/** Until ledger and stores agree: an attempt that was given up may still be at work. */
export async function untilAgreed(world: World, asked: Asked): Promise<void> {
  const agree = async (): Promise<true> => {
    await expectAgreement(world, asked.tenantId);
    return true;
  };
  await until('ledger and stores agree', () => agree().catch(() => false), 10_000);
}

export async function finishedRun(world: World): Promise<Asked> {
  const asked = await world.ask();
  const { handle } = await startProvision(world, asked);
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  return asked;
}
