import { temporal as proto } from '@temporalio/proto';
import { FINISH } from '../../domain/contracts.js';
import { redisMarkerKey } from '../../domain/names.js';
import { expectAgreement } from '../support/agreement.js';
import { startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import { createWorld, type World } from '../support/world.js';

describe('provisioning a tenant', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker();
  });
  afterAll(() => world.close());

  it('makes the tenant in the three stores, proves it and activates it', async () => {
    const asked = await world.ask();
    const { admission, handle } = await startProvision(world, asked);
    expect(await admission).toMatchObject({
      tenantId: asked.tenantId,
      generation: 1,
      cell: world.cell,
      plan: 'team',
    });
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    expect(await world.catalogue.tenants.find(asked.tenantId)).toMatchObject({
      state: 'active',
      generation: 1,
    });
    const steps = await stepsOf(world, asked.operationId);
    expect(steps.map((step) => [step.name, step.status])).toEqual(
      expect.arrayContaining([
        ['admit', 'succeeded'],
        ['postgres', 'succeeded'],
        ['mongo', 'succeeded'],
        ['redis', 'succeeded'],
        ['verify', 'succeeded'],
        ['activate', 'succeeded'],
      ]),
    );
    const ledger = await world.catalogue.tenants.allocations(asked.tenantId);
    expect(new Set(ledger.map((allocation) => allocation.state))).toEqual(new Set(['verified']));
    expect(await expectAgreement(world, asked.tenantId)).toHaveLength(ledger.length);
  });

  it('tells a caller who waits for the end when there is one', async () => {
    const asked = await world.ask();
    const { admission } = await startProvision(world, { ...asked, update: FINISH });
    await admission;
    expect(await world.catalogue.tenants.find(asked.tenantId)).toMatchObject({ state: 'active' });
  });

  it('tells it too when it is made in vain, and a refusal at once', async () => {
    const asked = await world.ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.set(redisMarkerKey(asked.tenantId), 'of somebody else');
    const { admission } = await startProvision(world, { ...asked, update: FINISH });
    await admission;
    expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({ status: 'failed' });

    const refused = await startProvision(world, {
      ...(await world.ask({ cell: 'nowhere' })),
      update: FINISH,
    });
    await expect(refused.admission).rejects.toMatchObject({ cause: { type: 'UNKNOWN_CELL' } });
  });

  it('takes its activities from the answers to its workflow tasks, and none out of a queue', async () => {
    const { handle } = await startProvision(world, await world.ask());
    await handle.result();
    const { workflowService, options } = world.temporal;
    // A server of somebody's own needs system.enableActivityEagerExecution for it.
    const described = await workflowService.describeTaskQueue({
      namespace: options.namespace,
      taskQueue: { name: world.taskQueue },
      taskQueueType: proto.api.enums.v1.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
      reportStats: true,
    });
    expect(described.stats).toMatchObject({ tasksAddRate: 0, approximateBacklogCount: expect.anything() });
  });

  it.each([
    ['as foreseen', undefined, 0],
    ['in another cell than was foreseen', 'elsewhere', 1],
  ])('shows where the tenant is: %s', async (_, elsewhere, mended) => {
    const foreseen = { cell: elsewhere ?? world.cell, plan: 'team' };
    const { handle } = await startProvision(world, { ...(await world.ask()), foreseen });
    await handle.result();
    const { searchAttributes } = await handle.describe();
    expect(searchAttributes).toMatchObject({ Cell: [world.cell], Plan: ['team'] });
    const { events } = await handle.fetchHistory();
    const changes = events?.filter((event) => event.upsertWorkflowSearchAttributesEventAttributes) ?? [];
    expect(changes).toHaveLength(mended);
  });
});
