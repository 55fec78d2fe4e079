/**
 * An admission, or its withdrawal, that is carried out late: its machine stood still, and what it was for has been
 * decided by others meanwhile.
 */
import { randomUUID } from 'node:crypto';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { admissionRepository } from '../../catalogue/admission.js';
import { batchAdmissionRepository } from '../../catalogue/batch-admission.js';
import { withClient } from '../../catalogue/bootstrap.js';
import { cellName, newTenantId, type OperationId } from '../../domain/ids.js';
import { redisMarkerKey } from '../../domain/names.js';
import { expectAgreement } from '../support/agreement.js';
import { askForBatch, newSlugs } from '../support/batch.js';
import { expectActive, expectNeverWas, expectNothingLeft } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { untilWaiting, whileLocked } from '../support/locks.js';
import { watchedPool } from '../support/points.js';
import { startProvision } from '../support/provision.js';
import {
  admit,
  askAndAdmit,
  type Asked,
  close,
  make,
  makeActive,
  proveAndActivate,
  undoAndClose,
} from '../support/steps.js';
import { createWorld, type RunningWorker, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

const statusOf = async ({ operationId }: { operationId: OperationId }) =>
  world.catalogue.operations.find(operationId);

describe('a Redis that has forgotten its users while an admission was under way', () => {
  it('is told nothing of a tenant of which nothing was made, so that a withdrawal leaves nothing', async () => {
    const { asked } = await askAndAdmit(world);
    await reconcile();
    await world.activities.withdrawAdmission({ ...asked, attempt: 1 });
    await expectNeverWas(world, asked);
  });

  it('nor of one that is to be tried again', async () => {
    const asked = await failedOnce();
    await admit(world, asked, 2);
    await reconcile();
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    await expectNothingLeft(world, asked.tenantId);
  });

  it('nor of those of a batch', async () => {
    const operationId = await failedBatch();
    await world.activities.admitBatch({ operationId, attempt: 2 });
    await reconcile();
    await world.activities.withdrawBatch({ operationId, attempt: 2 });
    for (const { tenantId } of await world.catalogue.operations.batchItems(operationId))
      if (tenantId !== null) await expectNothingLeft(world, tenantId);
  });

  async function reconcile(): Promise<void> {
    const { catalogue, cells, secrets } = world.dependencies;
    await reconcileNamespaces(catalogue, secrets, (await cells.get(world.cell)).redis, world.cell);
  }
});

describe('a withdrawal that comes late', () => {
  it('takes nothing back of the attempt after its own', async () => {
    const asked = await failedOnce();
    await admit(world, asked, 2);
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    const third = await admit(world, asked, 3);
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    await world.activities.withdrawAdmission({ ...asked, attempt: 1 });
    await make(world, third);
    await proveAndActivate(world, third);
    await expectActive(world, asked);
  });

  it('takes no batch back that has run meanwhile, and nothing of its retry', async () => {
    const operationId = await failedBatch();
    await world.activities.withdrawBatch({ operationId, attempt: 1 });
    expect(await statusOf({ operationId })).toMatchObject({ status: 'failed', attempt: 1 });
    await world.activities.admitBatch({ operationId, attempt: 2 });
    await world.activities.withdrawBatch({ operationId, attempt: 1 });
    expect(await statusOf({ operationId })).toMatchObject({ status: 'running', attempt: 2 });
  });

  it('of a retry: what the attempt before it left stays in the ledger', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.undoRedis(fence);
    await world.activities.undoPostgres(fence);
    await world.catalogue.steps.begin(fence, 'undo-mongo');
    const { residue } = await close(world, fence);
    await admit(world, asked, 2);
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    expect(await expectAgreement(world, asked.tenantId)).not.toEqual([]);
    expect(await statusOf(asked)).toMatchObject({ status: 'cancelled', residue: sameAs(residue) });
  });

  it('of a retry of a batch: what the attempt before it left stays in the ledger', async () => {
    const operationId = await askForBatch(world, newSlugs(1));
    const asked = { operationId, attempt: 1 };
    expect(await world.activities.admitBatch(asked)).toHaveProperty('admitted');
    const fence = { ...asked, ordinals: [0] };
    const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
    await world.activities.batchFail({ ...fence, status: 'failed', error });
    await world.activities.batchAbandon(fence);
    await world.activities.closeBatch(asked);
    const residue = (await statusOf(asked))?.residue ?? [];
    expect(residue).not.toEqual([]);
    expect(await world.activities.admitBatch({ ...asked, attempt: 2 })).toHaveProperty('admitted');
    await world.activities.withdrawBatch({ ...asked, attempt: 2 });
    expect(await statusOf(asked)).toMatchObject({ status: 'cancelled', residue: sameAs(residue) });
    const [item] = await world.catalogue.operations.batchItems(operationId);
    const ledger = item?.tenantId ? await world.catalogue.tenants.allocations(item.tenantId) : [];
    expect(new Set(ledger.map(({ state }) => state))).toEqual(new Set(['intended']));
  });
});

describe('an admission that comes late', () => {
  it('of a retry: after it was withdrawn, nothing of it happens', async () => {
    const asked = await failedOnce();
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    expect(await world.activities.admitProvision({ ...asked, attempt: 2 })).toMatchObject({
      refused: { code: 'ADMISSION_TIMEOUT' },
    });
    expect(await statusOf(asked)).toMatchObject({ status: 'failed' });
    await makeActive(world, asked, 3);
    await expectActive(world, asked);
  });

  it('of a retry: it has seen how the attempt before ended, and is withdrawn then', async () => {
    const asked = await failedOnce();
    const { holds, pool } = watched();
    const hold = holds.at('after admission-candidate');
    const late = admissionRepository(pool).admitProvision(asked.operationId, 2, blueprint());
    await hold.reached;
    await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
    hold.release();
    expect(await late).toMatchObject({ refused: { code: 'STALE_GENERATION' } });
    expect(await statusOf(asked)).toMatchObject({ status: 'failed' });
  });
});

describe('an admission of the first attempt that comes late', () => {
  it('is not remembered as the refusal of a request that was admitted, so that it can be retried', async () => {
    const asked = await askWithKey();
    const { holds, pool } = watched();
    const hold = holds.at('after admission-candidate');
    const late = admissionRepository(pool).admitProvision(asked.operationId, 1, blueprint());
    await hold.reached;
    const fence = await admit(world, asked);
    await undoAndClose(world, fence);
    hold.release();
    expect(await late).toMatchObject({ refused: { code: 'SLUG_TAKEN' } });
    await makeActive(world, asked, 2);
    await expectActive(world, asked);
  });
});

describe('a refusal that comes late', () => {
  it.each(['while its twin is admitted', 'after its twin has run and ended'])(
    'that another attempt may not meet, %s, takes no Idempotency-Key away',
    async (when) => {
      const asked = await askWithKey();
      const { holds, pool } = watched();
      const hold = holds.at('after admission-candidate');
      const late = admissionRepository(pool).admitProvision(asked.operationId, 1, blueprint());
      await hold.reached;
      const fence = await admit(world, asked);
      if (when.startsWith('after')) {
        await undoAndClose(world, fence);
      }
      // What is our own state, and not the request's fault, is not remembered.
      await whileNotReady(async () => {
        hold.release();
        await late;
      });
      expect(await askWithKey(asked.slug)).toMatchObject({ operationId: asked.operationId });
    },
  );

  async function whileNotReady(work: () => Promise<void>): Promise<void> {
    const { pool } = world.catalogue;
    const { rows } = await pool.query('UPDATE cell SET prepared_at = NULL WHERE name = $1 RETURNING trial', [
      world.cell,
    ]);
    await work();
    await pool.query('UPDATE cell SET prepared_at = clock_timestamp() WHERE name = $1', [world.cell]);
    expect(rows).toHaveLength(1);
  }
});

describe('admissions and withdrawals that meet', () => {
  it('a request that is taken for abandoned while it is admitted keeps its Idempotency-Key', async () => {
    const asked = await askWithKey();
    const abandoned = await askWithKey();
    const { holds, pool } = watched();
    const hold = holds.at('after admission-ledger');
    const admitting = admissionRepository(pool).admitProvision(asked.operationId, 1, blueprint());
    await hold.reached;
    const forgetting = world.catalogue.requests.forgetAbandoned(0);
    await untilWaitFor(1);
    hold.release();
    expect(await admitting).toHaveProperty('admitted');
    await forgetting;
    expect(await askWithKey(asked.slug)).toMatchObject({ operationId: asked.operationId });
    expect(await world.activities.admitProvision({ ...abandoned, attempt: 1 })).toMatchObject({
      refused: { code: 'ADMISSION_TIMEOUT' },
    });
    expect(await askWithKey(abandoned.slug)).not.toMatchObject({ operationId: abandoned.operationId });
  });

  it('a withdrawal and an admission of the same slug do not wait for each other', async () => {
    const { asked } = await askAndAdmit(world);
    const again = await askWithKey(asked.slug);
    const { holds, pool } = watched();
    const hold = holds.at('after cell-place');
    const admitting = admissionRepository(pool).admitProvision(again.operationId, 1, blueprint());
    await hold.reached;
    const withdrawing = world.activities.withdrawAdmission({ ...asked, attempt: 1 });
    await untilWaitFor(1);
    hold.release();
    expect(await admitting).toMatchObject({ refused: { code: 'SLUG_TAKEN' } });
    await withdrawing;
    await expectNeverWas(world, asked);
  });

  describe('two batches that ask the other way round', () => {
    const another = cellName('another');
    beforeAll(async () => {
      const { cells } = world.catalogue;
      const here = await cells.find(world.cell);
      if (here?.trial == null) throw new Error('a cell that was not prepared');
      await cells.declare({ ...here, name: another });
      await cells.prepared(another, here.trial);
    });

    it('for the same cells do not wait for each other', async () => {
      const [a, b, c, d] = newSlugs(4);
      const one = await askIn([a, world.cell], [b, another]);
      const other = await askIn([c, another], [d, world.cell]);
      const { holds, pool } = watched();
      const hold = holds.at('after UPDATE');
      const admitting = batchAdmissionRepository(pool).admit(one, 1, blueprint());
      await hold.reached;
      const meanwhile = admitBatch(other);
      await untilWaitFor(1);
      hold.release();
      expect(await admitting).toMatchObject({ admitted: { ordinals: [0, 1] } });
      expect(await meanwhile).toMatchObject({ admitted: { ordinals: [0, 1] } });
    });

    it('for the same slugs do not wait for each other', async () => {
      const [a, b, c] = newSlugs(3).toSorted();
      const one = await askIn([a, world.cell], [b, world.cell], [c, world.cell]);
      const other = await askIn([c, another], [a, another]);
      const taken = {
        text: `INSERT INTO tenant (id, slug, name, plan, cell, state, generation)
               VALUES ($1, $2, 'Acme', 'team', $3, 'failed', 1)`,
        values: [newTenantId(), b, world.cell],
      };
      let meanwhile: ReturnType<typeof admitBatch> | undefined;
      const admitting = await whileLocked(
        world,
        taken,
        1,
        () => admitBatch(one),
        async () => {
          meanwhile = admitBatch(other);
          await untilWaitFor(2);
        },
      );
      expect(admitting).toMatchObject({ admitted: { ordinals: [0, 2] } });
      expect(await meanwhile).toMatchObject({ admitted: { ordinals: [] } });
    });
  });

  const admitBatch = (operationId: OperationId) => world.activities.admitBatch({ operationId, attempt: 1 });
  const untilWaitFor = (count: number) =>
    withClient(world.url('control'), (client) => untilWaiting(client, count));

  async function askIn(...places: [slug: string | undefined, cell: string][]): Promise<OperationId> {
    const tenants = places.map(([slug, cell]) => ({ slug, name: 'Acme', plan: 'team', cell }));
    return (await world.catalogue.requests.intake({ kind: 'provision-batch', body: { tenants } }))
      .operationId;
  }
});

describe('an admission of a batch that comes late', () => {
  it('is the same as that of its twin', async () => {
    const operationId = await askForBatch(world, newSlugs(2));
    const lock = { text: 'SELECT FROM cell WHERE name = $1 FOR UPDATE', values: [world.cell] };
    const run = () => world.activities.admitBatch({ operationId, attempt: 1 });
    const answers = await whileLocked(world, lock, 2, () => Promise.all([run(), run()]));
    expect(answers[0]).toMatchObject({ admitted: { ordinals: [0, 1] } });
    expect(answers[1]).toEqual(answers[0]);
  });

  it('of a retry: does not begin again what has run and ended meanwhile', async () => {
    const operationId = await failedBatch();
    const { holds, pool } = watched();
    const hold = holds.at('after SELECT');
    const late = batchAdmissionRepository(pool).admit(operationId, 2, blueprint());
    await hold.reached;
    await failBatch({ operationId, attempt: 2 });
    hold.release();
    expect(await late).toMatchObject({ refused: { code: 'OPERATION_NOT_RETRYABLE' } });
    expect(await statusOf({ operationId })).toMatchObject({ status: 'failed', attempt: 2 });
  });

  it('of a retry: after it was withdrawn, nothing of it happens', async () => {
    const operationId = await failedBatch();
    await world.activities.withdrawBatch({ operationId, attempt: 2 });
    expect(await world.activities.admitBatch({ operationId, attempt: 2 })).toMatchObject({
      refused: { code: 'ADMISSION_TIMEOUT' },
    });
    expect(await statusOf({ operationId })).toMatchObject({ status: 'failed' });
    expect(await world.activities.admitBatch({ operationId, attempt: 3 })).toMatchObject({
      admitted: { ordinals: [0, 1] },
    });
  });
});

describe('a retry that reaches the run of the attempt before, which has not come to its end', () => {
  const holds = createHolds();
  let worker: RunningWorker;
  beforeAll(async () => {
    worker = await world.startWorker(holds.stepIn);
  });
  afterAll(() => worker.stop());

  it('is told so, and not that it was admitted', async () => {
    const asked = await world.ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
    const hold = holds.at('after close');
    const first = await startProvision(world, asked);
    await hold.reached;
    await redis.del(redisMarkerKey(asked.tenantId));
    const early = await startProvision(world, { ...asked, attempt: 2 });
    await expect(early.admission).rejects.toMatchObject({ cause: { type: 'OPERATION_RUNNING' } });
    hold.release();
    await expect(first.handle.result()).rejects.toMatchObject({ cause: { type: 'NAME_TAKEN' } });
    const retried = await startProvision(world, { ...asked, attempt: 2 });
    expect(await retried.handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
  });
});

/** In whatever order. */
const sameAs = (items: readonly unknown[]): unknown => expect.arrayContaining([...items]);

const blueprint = () => world.dependencies.blueprint;

function watched() {
  const holds = createHolds();
  return { holds, pool: watchedPool(world.catalogue.pool, holds.reach) };
}

async function askWithKey(slug = `t-${randomUUID().slice(0, 13)}`): Promise<Asked> {
  const { operationId, tenantId } = await world.catalogue.requests.intake({
    kind: 'provision',
    body: { name: 'Acme', plan: 'team', slug },
    idempotencyKey: slug,
  });
  if (tenantId === undefined) throw new Error('a provisioning without a tenant');
  return { operationId, tenantId, slug };
}

async function failedBatch(): Promise<OperationId> {
  const operationId = await askForBatch(world, newSlugs(2));
  await failBatch({ operationId, attempt: 1 });
  return operationId;
}

/** An attempt at a batch of which nothing was made. */
async function failBatch(asked: { operationId: OperationId; attempt: number }): Promise<void> {
  expect(await world.activities.admitBatch(asked)).toHaveProperty('admitted');
  const fence = { ...asked, ordinals: [0, 1] };
  const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
  await world.activities.batchFail({ ...fence, status: 'failed', error });
  await world.catalogue.batches.undone(fence, await world.catalogue.batches.toUndo(fence), true);
  await world.activities.closeBatch(asked);
}

async function failedOnce(): Promise<Asked> {
  const { asked, fence } = await askAndAdmit(world);
  await undoAndClose(world, fence);
  return asked;
}
