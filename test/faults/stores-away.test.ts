/**
 * Each server is killed while runs stand at every step that needs it, and started again. The runs wait, say why, and
 * come to the end that they would have come to. And each is away when a worker process starts, which prepares the cells.
 * MongoDB alone: `mongo-away`.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { redisMarkerKey, redisUserName } from '../../domain/names.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { startCrashingWorker } from '../support/crash.js';
import { expectActive, expectCanary, expectNeverWas } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { startProvision } from '../support/provision.js';
import { type Ending, expectEnds, expectWhole, finishedRun, letGoOn, runTo } from '../support/runs.js';
import { type OwnServers, SERVERS, type ServerName, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import {
  expectAdmittedWhenThere,
  expectResidueTakenUp,
  expectWaitedFor,
  PATIENCE,
} from './support/store-away.js';

let own: OwnServers<ServerName>;
beforeAll(async () => {
  own = await startOwnServers(SERVERS);
});
afterAll(() => own.close());
afterEach(async () => {
  // Also after a failure, whose reason must not be hidden by those of the tests that follow.
  await Promise.all(Object.values(own.servers).map((server) => server.start()));
});

describe('a server that is killed and comes back', () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld(own.world);
    await world.startWorker(holds.stepIn);
  });
  afterAll(async () => {
    await expectCanary(world);
    await world.close();
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

describe('a worker process that starts while servers are away', () => {
  let world: World;
  beforeEach(async () => {
    world = await createWorld({ ...own.world, prepare: false });
  });
  afterEach(() => world.close());

  it.each(['cell', 'redis'] as const)('%s: tenants are admitted when it is there', (server) =>
    expectAdmittedWhenThere(world, own.servers[server]),
  );

  it('the catalogue: it waits for it', async () => {
    await own.servers.control.kill();
    const worker = startCrashingWorker(world, {});
    try {
      await worker.polling;
      await own.servers.control.start();
      const asked = await until('the request is taken', () => world.ask().catch(() => undefined));
      await until('the cell is prepared', async () => {
        const cell = await world.catalogue.cells.find(world.cell);
        return cell?.preparedAt;
      });
      const { handle } = await startProvision(world, asked);
      expect(await handle.result()).toEqual({ status: 'succeeded' });
      await expectActive(world, asked);
    } finally {
      worker.end();
      await worker.killed;
    }
  });

  it('Temporal: it says so and ends, for whatever watches over it to start it again', async () => {
    await own.servers.temporal.kill();
    try {
      const { code, said } = await runToItsEnd(world);
      expect(code).toBe(1);
      expect(said).toMatch(/connect|Temporal/i);
    } finally {
      await own.servers.temporal.start();
    }
  });
});

function runToItsEnd(world: World): Promise<{ code: number | null; said: string }> {
  const program = join(__dirname, '..', '..', 'dist', 'worker', 'main.js');
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, ...world.env, TENANTRY_TEMPORAL_CONNECT_MS: '500' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      said += text.toString();
    });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said }));
  });
}
