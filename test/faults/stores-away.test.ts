/**
 * Each server is killed while runs stand at every step that needs it, and started again. The runs wait, say why, and
 * come to the end that they would have come to. MongoDB alone: `mongo-away`.
 */
import { redisMarkerKey, redisUserName } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { expectCanary, expectNeverWas } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { type Ending, expectEnds, expectWhole, finishedRun, letGoOn, runTo } from '../support/runs.js';
import { type OwnServers, SERVERS, type ServerName, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { expectResidueTakenUp, expectWaitedFor, PATIENCE } from './support/store-away.js';

describe('a server that is killed and comes back', () => {
  let own: OwnServers<ServerName>;
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    own = await startOwnServers(SERVERS);
    world = await createWorld(own.world);
    await world.startWorker(holds.stepIn);
  });
  afterEach(async () => {
    // Also after a failure, whose reason must not be hidden by those of the tests that follow.
    await Promise.all(Object.values(own.servers).map((server) => server.start()));
  });
  afterAll(async () => {
    await expectCanary(world);
    await world.close();
    await own.close();
  });

  it.each([
    ['cell', 'postgres'],
    ['redis', 'redis'],
  ] as const)('%s: runs at each step wait for it, and end well', (server, step) =>
    expectWaitedFor({ world, holds, server: own.servers[server], step }),
  );

  it('Redis, without its data: markers and users are back, and what is foreign is left alone', async () => {
    const before = await finishedRun(world);
    const robbed = await finishedRun(world);
    const runs = [
      await at('after begin redis'),
      // Its marker is made and its user is not; both are made, and not recorded; all is recorded.
      await at('after SET'),
      await at('before finish redis'),
      await at('after begin verify'),
      await at('after begin undo-redis', 'fails'),
    ];
    const { redis } = await world.dependencies.cells.get(world.cell);
    const [marker, user] = [redisMarkerKey(robbed.tenantId), redisUserName(robbed.tenantId)];
    // Written through and then killed: nothing of what it had is on its disk.
    await redis.flushall();
    await redis.set(marker, 'of somebody else');
    await own.servers.redis.kill();
    letGoOn(runs);
    await own.servers.redis.start();
    // One of them was undone with its foreign marker gone.
    await expectEnds(runs);
    await expectWhole(world, before);
    await expectCanary(world);
    expect(await redis.get(marker)).toBe('of somebody else');
    expect(await redis.acl('GETUSER', user)).toBeNull();
    await redis.del(marker);
    const { catalogue, secrets } = world.dependencies;
    expect(await reconcileNamespaces(catalogue, secrets, redis, world.cell)).toMatchObject({
      markers: 1,
      foreign: 0,
    });
    await expectWhole(world, robbed);
  });

  it('the catalogue: runs at each step wait for it, and end well', async () => {
    const runs = [
      await at('before admit'),
      await at('before begin mongo'),
      await at('before finish redis'),
      await at('before finish verify'),
      await at('before activate'),
      await at('before begin undo-mongo', 'fails'),
      await at('after undo undo-postgres', 'fails'),
      await at('before close', 'fails'),
    ];
    await own.servers.control.kill();
    letGoOn(runs);
    // With the catalogue away only Temporal knows why a run waits.
    for (const { point, handle } of runs.filter(({ point }) => /begin|finish/.test(point)))
      await until(`${point}: the run says what it waits for`, async () => {
        const { raw } = await handle.describe();
        return raw.pendingActivities?.some(
          ({ lastFailure }) => lastFailure?.applicationFailureInfo?.type === 'CATALOGUE_UNAVAILABLE',
        );
      });
    for (const { handle } of runs) expect((await handle.describe()).status.name).toBe('RUNNING');
    await own.servers.control.start();
    await expectEnds(runs);
  });

  it('Temporal: what it had acknowledged goes on where it was', async () => {
    const runs = [
      await at('before admit'),
      await at('after begin postgres'),
      await at('after createRole'),
      await at('after SET'),
      await at('before finish verify'),
      await at('before activate'),
      await at('after activate'),
      await at('after begin undo-mongo', 'fails'),
      await at('before close', 'fails'),
    ];
    await own.servers.temporal.kill();
    letGoOn(runs);
    await own.servers.temporal.start();
    await expectEnds(runs);
  });

  it('all of them at once: everything is as it should be afterwards', async () => {
    const runs = [
      await at('before admit'),
      await at('after begin postgres'),
      await at('after createRole'),
      await at('before finish redis'),
      await at('after begin verify'),
      await at('before activate'),
      await at('after begin undo-redis', 'fails'),
      await at('after undo undo-postgres', 'fails'),
    ];
    const servers = Object.values(own.servers);
    await Promise.all(servers.map((server) => server.kill()));
    letGoOn(runs);
    await Promise.all(servers.map((server) => server.start()));
    await expectEnds(runs);
  });

  it.each([
    ['cell', 'postgres'],
    ['redis', 'redis'],
  ] as const)(
    '%s, for longer than an undo may take: what is left is reported and in the ledger, and a retry takes it up',
    (server, step) => expectResidueTakenUp({ world, holds, server: own.servers[server], step }),
  );

  it('the catalogue, for longer than the caller of an admission waits: it is taken back when the catalogue is there', async () => {
    const run = await at('before admit');
    const withdrawal = holds.at('before withdraw', lifecycleWorkflowId(run.asked.tenantId));
    await own.servers.control.kill();
    run.hold.release();
    await run.handle.cancel();
    // The run cannot know whether its admission came through, so it does not end before the catalogue has said so.
    await withdrawal.reached;
    withdrawal.release();
    await own.servers.control.start();
    expect(await run.handle.result()).toEqual({ status: 'withdrawn' });
    await expectNeverWas(world, run.asked);
  });

  const at = (point: string, ending?: Ending, patience = PATIENCE) =>
    runTo({ world, holds, patience }, point, ending);
});
