/** What runs by itself is made by the workers, once, and left as an operator set it. */
import { Client, Connection } from '@temporalio/client';
import { operationId } from '../../domain/ids.js';
import { createLogger } from '../../domain/log.js';
import { keepRegistered } from '../../worker/registrations.js';
import { ensureSchedules, type ScheduleSettings } from '../../worker/schedules.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

describe('the schedule of the isolation probe', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker();
  });
  afterAll(async () => {
    await ensureSchedules(world.temporal, settings(0));
    await world.close();
  });

  const settings = (isolationProbeEvery: number): ScheduleSettings => ({
    taskQueue: world.taskQueue,
    isolationProbeEvery,
    isolationProbeSample: 5,
  });
  const handle = () => world.temporal.schedule.getHandle(`${world.taskQueue}/isolation-probe`);

  it('is made once by workers that start at the same time, and changed by a later one', async () => {
    await Promise.all([1, 2, 3].map(() => ensureSchedules(world.temporal, settings(3_600_000))));
    expect((await handle().describe()).spec.intervals).toMatchObject([{ every: 3_600_000 }]);
    await ensureSchedules(world.temporal, settings(1_800_000));
    expect((await handle().describe()).spec.intervals).toMatchObject([{ every: 1_800_000 }]);
  });

  it('starts a probe that ends well', async () => {
    await handle().trigger();
    const [action] = await until('it has run', async () => {
      const { recentActions } = (await handle().describe()).info;
      return recentActions.length > 0 && recentActions;
    });
    const { workflow } = action?.action ?? {};
    const run = world.temporal.workflow.getHandle(workflow?.workflowId ?? '');
    const outcome = (await run.result()) as { operationId: string };
    expect(await world.catalogue.operations.find(operationId(outcome.operationId))).toMatchObject({
      kind: 'isolation-probe',
      status: 'succeeded',
    });
    expect((await run.describe()).searchAttributes).toMatchObject({ OperationKind: ['isolation-probe'] });
  });

  it('stays paused when an operator paused it', async () => {
    await handle().pause('maintenance');
    await ensureSchedules(world.temporal, settings(900_000));
    expect((await handle().describe()).state).toMatchObject({ paused: true, note: 'maintenance' });
  });

  it('is made again when Temporal has lost it, and left as it is otherwise', async () => {
    const stopping = new AbortController();
    const connection = await Connection.connect({ address: world.stack.temporalAddress });
    const client = new Client({ connection });
    const registering = { connection, client, namespace: 'default', schedules: settings(600_000) };
    keepRegistered(registering, createLogger({ level: 'silent' }), stopping.signal, 20);
    const { spec, state } = await handle().describe();
    expect([spec.intervals, state.paused]).toMatchObject([[{ every: 900_000 }], true]);
    await handle().delete();
    const { spec: anew } = await until('it is there again', () =>
      handle()
        .describe()
        .catch(() => undefined),
    );
    expect(anew.intervals).toMatchObject([{ every: 600_000 }]);
    stopping.abort();
    await connection.close();
  });

  it('is taken away when it is switched off', async () => {
    await ensureSchedules(world.temporal, settings(0));
    await expect(handle().describe()).rejects.toThrow();
    await ensureSchedules(world.temporal, settings(0));
  });
});
