/** What a worker says late of a cell or of a probe: it stood still, and another one has looked since. */
import { randomUUID } from 'node:crypto';
import type { Blueprint } from '../../catalogue/admission.js';
import { ISOLATION_PROBE } from '../../domain/contracts.js';
import { newOperationId } from '../../domain/ids.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { canaryId } from '../../tenancy/canary.js';
import { signal } from '../support/holds.js';
import { stepsOf } from '../support/recorded.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it('a trial that was made before the last one does not take its place', async () => {
  const { cells } = world.catalogue;
  const trial = { server: 'MongoDB 8', refused: [], notRefused: [] };
  const now = await cells.now();
  const earlier = { ...trial, triedAt: new Date(now.getTime() - 1).toISOString(), refused: ['reads'] };
  const newest = { ...trial, triedAt: now.toISOString(), notRefused: ['reads'] };
  await cells.prepared(world.cell, newest);
  await cells.prepared(world.cell, earlier);
  expect((await cells.find(world.cell))?.trial).toEqual(newest);
});

it('a worker with an older manifest says of a canary only what that manifest asks for', async () => {
  const { catalogue, blueprint } = world.dependencies;
  const id = canaryId(world.cell);
  const orders = {
    store: 'mongo',
    kind: 'collection',
    name: `${mongoDatabaseName(id)}.orders`,
    specHash: 'of its layout',
  } as const;
  const newer: Blueprint = {
    ...blueprint,
    allocations: (tenant) => [...blueprint.allocations(tenant), orders],
  };
  const stateOfOrders = async () =>
    (await catalogue.tenants.allocations(id)).find(({ name }) => name === orders.name)?.state;
  await catalogue.canaries.intend(world.cell, id, newer);
  await catalogue.canaries.made(id, blueprint);
  expect(await stateOfOrders()).toBe('intended');
  await catalogue.canaries.made(id, newer);
  expect(await stateOfOrders()).toBe('created');
});

describe('a probe that was given up', () => {
  const refused = {
    error: { code: 'VERIFICATION_FAILED', message: 'Redis did not answer as expected.' },
  } as const;
  const breach = { error: { code: 'ISOLATION_BREACH', message: 'Somebody got through.' } } as const;
  const step = async (id: ReturnType<typeof newOperationId>) =>
    (await stepsOf(world, id)).map(({ status, lastError }) => ({
      status,
      code: lastError?.code,
    }));

  it('changes nothing of what a later attempt has seen', async () => {
    const { isolationProbes } = world.catalogue;
    const id = newOperationId();
    await isolationProbes.begin(id);
    await isolationProbes.record(id, world.cell, 2, { evidence: { pairs: 4 } });
    await isolationProbes.record(id, world.cell, 1, refused);
    expect(await step(id)).toEqual([{ status: 'succeeded', code: undefined }]);
    await isolationProbes.close(id, null);
  });

  it('does not run for ever when it begins after its end', async () => {
    const { isolationProbes } = world.catalogue;
    const id = newOperationId();
    const error = { code: 'CATALOGUE_UNAVAILABLE', message: 'The catalogue cannot be reached.' } as const;
    await isolationProbes.close(id, error);
    await isolationProbes.begin(id);
    expect(await world.catalogue.operations.find(id)).toMatchObject({ status: 'failed', error });
  });

  it('is heard when somebody got through, which no other attempt takes back', async () => {
    const { isolationProbes } = world.catalogue;
    const id = newOperationId();
    await isolationProbes.begin(id);
    await isolationProbes.record(id, world.cell, 2, { evidence: { pairs: 4 } });
    await isolationProbes.record(id, world.cell, 1, breach);
    await isolationProbes.record(id, world.cell, 3, { evidence: { pairs: 4 } });
    expect(await step(id)).toEqual([{ status: 'failed', code: 'ISOLATION_BREACH' }]);
    await isolationProbes.close(id, null);
  });
});

it('a probe that is cancelled before it hears that it has begun is over', async () => {
  const begun = signal();
  const worker = await world.startWorker({
    activities: {
      ...world.activities,
      async beginIsolationProbe(asked) {
        await world.activities.beginIsolationProbe(asked);
        begun.give();
        throw new Error('its answer is lost');
      },
    },
  });
  const handle = await world.temporal.workflow.start(ISOLATION_PROBE, {
    taskQueue: world.taskQueue,
    workflowId: `isolation-probe/${randomUUID()}`,
    args: [{ sample: 1, patience: { step: 10_000, undo: 0, attempt: 10_000 } }],
  });
  await begun.given;
  await handle.cancel();
  await expect(handle.result()).rejects.toMatchObject({ cause: { name: 'CancelledFailure' } });
  const running = "SELECT id FROM operation WHERE status = 'running'";
  expect((await world.catalogue.pool.query(running)).rows).toEqual([]);
  await worker.stop();
});
