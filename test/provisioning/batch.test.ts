import pg from 'pg';
import { cellName, type OperationId } from '../../domain/ids.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { batchWorkflowId } from '../../domain/workflow-ids.js';
import { expectAgreement } from '../support/agreement.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { isSlugTaken, stepsOf } from '../support/recorded.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

describe('provisioning a batch', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker();
  });
  afterAll(() => world.close());

  const ask = (slugs: string[]) => askForBatch(world, slugs);
  const start = (operationId: OperationId, attempt = 1) => startBatch(world, operationId, attempt);
  const newSlug = (): string => newSlugs(1)[0] as string;

  it('makes every tenant, in whichever cell, and says which were probed', async () => {
    const { cells, requests } = world.catalogue;
    const here = await cells.find(world.cell);
    if (here?.trial == null) throw new Error('a cell that was not prepared');
    const another = cellName('another');
    await cells.declare({ ...here, name: another });
    await cells.prepared(another, here.trial);
    const tenants = newSlugs(25).map((slug, i) => {
      const cell = i % 2 === 0 ? world.cell : another;
      return { slug, name: 'Acme', plan: 'team', cell };
    });
    const { operationId } = await requests.intake({ kind: 'provision-batch', body: { tenants } });
    const { admission, handle } = await start(operationId);
    expect(admission.ordinals).toHaveLength(25);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    const items = await world.catalogue.operations.batchItems(operationId);
    expect(items.map((item) => item.status)).toEqual(items.map(() => 'succeeded'));
    for (const { tenantId } of items) {
      if (tenantId === null) throw new Error('no tenant');
      expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'active' });
      expect(await expectAgreement(world, tenantId)).not.toHaveLength(0);
    }
    const verify = (await stepsOf(world, operationId)).filter((step) => step.name.startsWith('verify'));
    const evidence = verify.map((step) => step.evidence as { tenants: number; probedToo: unknown[] });
    expect(evidence.map((seen) => seen.tenants)).toEqual([10, 10, 5]);
    expect(evidence.flatMap((seen) => seen.probedToo).length).toBeGreaterThanOrEqual(20);
  });

  it('refuses a slug that is taken or comes twice, and makes the others', async () => {
    const [once, twice, taken] = [newSlug(), newSlug(), newSlug()];
    await (await start(await ask([taken]))).handle.result();
    const room = async () => (await world.catalogue.cells.find(world.cell))?.tenants ?? 0;
    const before = await room();
    const operationId = await ask([once, twice, taken, twice]);
    const { admission, handle } = await start(operationId);
    expect(admission).toMatchObject({ ordinals: [0, 1], refused: 2 });
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    const items = await world.catalogue.operations.batchItems(operationId);
    expect(items.map(({ status, error }) => [status, error?.code])).toEqual([
      ['succeeded', undefined],
      ['succeeded', undefined],
      ['refused', 'SLUG_TAKEN'],
      ['refused', 'SLUG_TAKEN'],
    ]);
    expect((await room()) - before).toBe(2);
  });

  it('undoes a tenant whose name is taken in a store, makes the others, and takes it up again in a retry', async () => {
    const operationId = await ask([newSlug(), newSlug(), newSlug()]);
    const { mongo } = await world.dependencies.cells.get(world.cell);
    // Admitted first, so that the tenant's name is known; the workflow finds its own admission.
    await world.activities.admitBatch({ operationId, attempt: 1 });
    const [, doomed] = await world.catalogue.operations.batchItems(operationId);
    if (!doomed?.tenantId) throw new Error('no tenant');
    const foreign = mongo.db(mongoDatabaseName(doomed.tenantId)).collection('foreign');
    await foreign.insertOne({ ours: false });

    const { handle } = await start(operationId);
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    const items = await world.catalogue.operations.batchItems(operationId);
    expect(items.map(({ status, error }) => [status, error?.code])).toEqual([
      ['succeeded', undefined],
      ['failed', 'NAME_TAKEN'],
      ['succeeded', undefined],
    ]);
    expect(await world.catalogue.tenants.find(doomed.tenantId)).toMatchObject({ state: 'failed' });
    const ledger = await world.catalogue.tenants.allocations(doomed.tenantId);
    expect(new Set(ledger.map((allocation) => allocation.state))).toEqual(new Set(['released']));
    expect(await foreign.countDocuments()).toBe(1);

    const again = await start(operationId, 2);
    await expect(again.handle.result()).rejects.toMatchObject({
      cause: { message: expect.stringContaining('1 of 3 tenants') as string },
    });
    await foreign.drop();
    await (await start(operationId, 3)).handle.result();
    expect(await world.catalogue.tenants.find(doomed.tenantId)).toMatchObject({
      state: 'active',
      generation: 3,
    });
    expect(await world.catalogue.operations.find(operationId)).toMatchObject({
      status: 'succeeded',
      attempt: 3,
    });
    await expectAgreement(world, doomed.tenantId);
  });

  it('says on the page of its run how it ended', async () => {
    const operationId = await ask([newSlug()]);
    const details = async () => {
      const handle = world.temporal.workflow.getHandle(batchWorkflowId(operationId));
      await handle.result();
      return (await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata')).currentDetails;
    };
    await start(operationId);
    expect(await details()).toBe('succeeded. 0 were refused; the results are in the operation.');
    await expect(start(operationId, 2)).rejects.toThrow();
    expect(await details()).toBe('Refused: OPERATION_NOT_RETRYABLE. Nothing was made.');
  });

  it('does not admit a batch whose caller was told meanwhile that it did not happen', async () => {
    const slug = newSlug();
    const operationId = await ask([slug]);
    const holder = new pg.Client({ connectionString: world.url('control') });
    await holder.connect();
    // The admission has read the request and waits for the cell's row.
    await holder.query('BEGIN');
    await holder.query('SELECT FROM tenantry.cell WHERE name = $1 FOR UPDATE', [world.cell]);
    const admitting = world.activities.admitBatch({ operationId, attempt: 1 });
    await until('the admission waits for the cell', async () => {
      // Not pg_stat_activity, which a transaction sees as it was when first asked.
      const { rowCount } = await holder.query(
        `SELECT FROM pg_locks WHERE NOT granted AND pid IN
           (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`,
      );
      return (rowCount ?? 0) > 0;
    });
    await world.catalogue.requests.forget(operationId, 1);
    await holder.query('COMMIT');
    await holder.end();
    expect(await admitting).toEqual({ refused: { code: 'ADMISSION_TIMEOUT', params: {} } });
    expect(await isSlugTaken(world, slug)).toBe(false);
    expect(await world.catalogue.operations.find(operationId)).toBeUndefined();
  });
});
