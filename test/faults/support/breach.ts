/** A store is opened before the verification, in a run of one tenant or of a batch: what is then expected of it. */
import type { OperationId, TenantId } from '../../../domain/ids.js';
import { askForBatch, newSlugs, startBatch } from '../../support/batch.js';
import { expectActive, expectCanary, expectNothingLeft, expectUndone } from '../../support/expect.js';
import type { createHolds } from '../../support/holds.js';
import { startProvision } from '../../support/provision.js';
import { stepsOf } from '../../support/recorded.js';
import type { World } from '../../support/world.js';

/** A change in a store, as somebody who may make it. */
export type Change = (world: World, tenantId: TenantId) => Promise<unknown>;

export interface Way {
  /** What it is that lets another through. */
  readonly way: string;
  readonly open: Change;
  readonly mend: Change;
  /** How the operation says where. */
  readonly says: string;
  /** What the MongoDB server must have been found to refuse at its trial. */
  readonly needs?: readonly string[];
}

/** Those of a worker of the world. */
type Holds = ReturnType<typeof createHolds>;

/** No tenant, and one after it was mended. */
export async function expectNoticed(world: World, holds: Holds, way: Way): Promise<void> {
  if (await isLetThroughAnyway(world, way)) return;
  const asked = await world.ask();
  const hold = holds.at('after begin verify');
  const { handle } = await startProvision(world, asked);
  await hold.reached;
  await way.open(world, asked.tenantId);
  hold.release();
  try {
    await expect(handle.result()).rejects.toMatchObject({
      cause: {
        type: 'ISOLATION_BREACH',
        nonRetryable: true,
        message: expect.stringContaining(way.says) as string,
      },
    });
    expect(await stepOf(world, asked.operationId, 'verify')).toMatchObject({
      status: 'failed',
      attempts: 1,
      lastError: { code: 'ISOLATION_BREACH', message: `A probe found that ${way.says}.` },
    });
    await expectUndone(world, asked, { status: 'failed', code: 'ISOLATION_BREACH' });
  } finally {
    await way.mend(world, asked.tenantId);
  }
  const { handle: retried } = await startProvision(world, { ...asked, attempt: 2 });
  expect(await retried.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
  await expectCanary(world);
}

/** No tenant of the chunk, and all of them after it was mended. */
export async function expectNoticedInABatch(world: World, holds: Holds, way: Way): Promise<void> {
  if (await isLetThroughAnyway(world, way)) return;
  const { operationId, tenants, handle } = await changedBeforeVerifying(world, holds, way.open);
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
  await expectCondemned(world, operationId, '1-3', tenants);

  await way.mend(world, tenants[1] as TenantId);
  expect(await (await startBatch(world, operationId, 2)).handle.result()).toEqual({ status: 'succeeded' });
  for (const tenantId of tenants)
    expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'active' });
}

/** What is changed of one tenant condemns its chunk; it goes with it, and what is the cell's is mended. */
export async function expectBreach(world: World, holds: Holds, change: Change, mend?: Change): Promise<void> {
  const { operationId, tenants, handle } = await changedBeforeVerifying(world, holds, change);
  try {
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
  } finally {
    await mend?.(world, tenants[1] as TenantId);
  }
  await expectCondemned(world, operationId, '1-3', tenants);
}

/** What is changed of one tenant fails that one alone. */
export async function expectFailureOfOne(world: World, holds: Holds, change: Change): Promise<void> {
  const { operationId, tenants, handle } = await changedBeforeVerifying(world, holds, change);
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
  const items = await world.catalogue.operations.batchItems(operationId);
  expect(items.map(({ status, error }) => [status, error?.code])).toEqual([
    ['succeeded', undefined],
    ['failed', 'VERIFICATION_FAILED'],
    ['succeeded', undefined],
  ]);
  await expectNothingLeft(world, tenants[1] as TenantId);
  expect(await stepOf(world, operationId, 'verify 1-3')).toMatchObject({ attempts: 1 });
}

/** A batch of three, the second of which is changed when all of them are made. */
async function changedBeforeVerifying(world: World, holds: Holds, change: Change) {
  const operationId = await askForBatch(world, newSlugs(3));
  const hold = holds.at('before batchVerify');
  const { handle } = await startBatch(world, operationId);
  await hold.reached;
  const tenants = await tenantsOf(world, operationId);
  await change(world, tenants[1] as TenantId);
  hold.release();
  return { operationId, tenants, handle };
}

/** A worker by which nobody of a batch is probed. */
export async function startLookingWorker(world: World, holds: Holds): Promise<void> {
  const { activities } = world;
  await world.startWorker({
    activities: { ...activities, batchVerify: (asked) => activities.batchVerify({ ...asked, sample: 0 }) },
    interceptors: holds.stepIn.interceptors,
  });
}

/** Nothing of the chunk is left or active, each of its tenants says why, and it was tried once. */
export async function expectCondemned(
  world: World,
  operationId: OperationId,
  chunk: string,
  tenants: readonly TenantId[],
): Promise<void> {
  const breach = {
    code: 'ISOLATION_BREACH',
    message: expect.stringMatching(
      /^A probe found that \w+ let one tenant reach another \(.+\)\.$/,
    ) as string,
  };
  expect(await stepOf(world, operationId, `verify ${chunk}`)).toMatchObject({
    status: 'failed',
    attempts: 1,
    lastError: breach,
  });
  const items = await world.catalogue.operations.batchItems(operationId);
  for (const tenantId of tenants) {
    expect(items.find((item) => item.tenantId === tenantId)).toMatchObject({
      status: 'failed',
      error: breach,
    });
    expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'failed' });
    await expectNothingLeft(world, tenantId);
  }
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({ status: 'failed', residue: [] });
}

/** A server that lets it through on any day has nothing to notice. Said aloud, so that nobody takes it for tried. */
async function isLetThroughAnyway(world: World, { way, needs = [] }: Way): Promise<boolean> {
  const { trial } = (await world.dependencies.cells.get(world.cell)).cell;
  const holes = needs.filter((name) => trial?.refused.includes(name) !== true);
  if (holes.length === 0) return false;
  process.stderr.write(`not tried: ${way}; MongoDB does not refuse to ${holes.join(', ')}\n`);
  return true;
}

export async function stepOf(world: World, operationId: OperationId, name: string) {
  return (await stepsOf(world, operationId)).find((step) => step.name === name);
}

export async function tenantsOf(world: World, operationId: OperationId): Promise<TenantId[]> {
  const items = await world.catalogue.operations.batchItems(operationId);
  return items.flatMap(({ tenantId }) => (tenantId === null ? [] : [tenantId]));
}
