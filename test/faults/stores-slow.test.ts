/**
 * A server that stands still (SIGSTOP) for longer than an attempt may take, and goes on: attempts that were given up and
 * those that took their place do the same thing at once. And servers that answer, and take nothing.
 */
import pg from 'pg';
import { ROLES } from '../../catalogue/bootstrap.js';
import { expectCanary } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { stepsOf } from '../support/recorded.js';
import {
  type Ending,
  expectEnds,
  expectWhole,
  finishedRun,
  letGoOn,
  runTo,
  untilRecorded,
} from '../support/runs.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { expectOnceThoughTwice, PATIENCE } from './support/store-away.js';

const NEEDED = ['control', 'cell', 'redis', 'temporal'] as const;
const IMPATIENT = { ...PATIENCE, attempt: 700 };

let own: OwnServers<(typeof NEEDED)[number]>;
let world: World;
const holds = createHolds();
const at = (point: string, ending?: Ending, patience = PATIENCE) =>
  runTo({ world, holds, patience }, point, ending);

beforeAll(async () => {
  own = await startOwnServers(NEEDED);
  world = await createWorld(own.world);
  await world.startWorker(holds.stepIn);
});
afterEach(() => {
  for (const server of Object.values(own.servers)) server.resume();
});
afterAll(async () => {
  await expectCanary(world);
  await world.close();
  await own.close();
});

describe('a server that stands still', () => {
  it.each([
    ['cell', ['after begin postgres', 'after begin verify'], ['after begin undo-postgres', 'before COMMIT']],
    ['redis', ['after begin redis', 'after SET', 'after begin verify'], ['after begin undo-redis']],
    [
      'control',
      ['before begin mongo', 'before finish redis', 'before begin verify', 'before finish verify'],
      ['before begin undo-redis', 'after undo undo-mongo'],
    ],
  ] as const)('%s: what was tried twice is there once', (server, forward, backward) =>
    expectOnceThoughTwice({ world, holds, server: own.servers[server] }, forward, backward),
  );

  it('the catalogue, at an admission, an activation and a closing: each is made once', async () => {
    const runs = [
      await at('before admit', 'ends well', IMPATIENT),
      await at('before activate', 'ends well', IMPATIENT),
      await at('before close', 'fails', IMPATIENT),
    ];
    own.servers.control.pause();
    const again = runs.map(({ point, handle }) => holds.at(point, handle.workflowId));
    letGoOn(runs);
    for (const { reached } of again) await reached;
    // Two attempts of each are now at the same statement.
    for (const hold of again) hold.release();
    own.servers.control.resume();
    await expectEnds(runs);
  });

  it('Temporal: what was done meanwhile is told afterwards', async () => {
    const runs = [
      await at('before finish verify'),
      await at('before activate'),
      await at('before close', 'fails'),
    ];
    own.servers.temporal.pause();
    letGoOn(runs);
    for (const { point, asked } of runs)
      await until(`${point}: it is done`, async () => {
        const { status } = (await world.catalogue.operations.find(asked.operationId)) ?? {};
        const steps = await stepsOf(world, asked.operationId);
        return (
          status !== 'running' || steps.some((step) => step.name === 'verify' && step.status === 'succeeded')
        );
      });
    own.servers.temporal.resume();
    await expectEnds(runs);
  });
});

describe('a server that takes no more', () => {
  it('Redis out of memory: runs wait until there is room', async () => {
    const before = await finishedRun(world);
    const runs = [await at('after begin redis'), await at('after begin verify')];
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.config('SET', 'maxmemory', '1');
    letGoOn(runs);
    await untilRecorded(runs, 'STORE_UNAVAILABLE');
    await redis.config('SET', 'maxmemory', '0');
    await expectEnds(runs);
    await expectWhole(world, before);
  });

  it.each([
    [
      'cell',
      'no connection to spare',
      `ALTER ROLE ${ROLES.catalogue} CONNECTION LIMIT 0`,
      `ALTER ROLE ${ROLES.catalogue} CONNECTION LIMIT -1`,
    ],
    [
      'cell',
      'a standby in its place',
      `ALTER ROLE ${ROLES.catalogue} SET default_transaction_read_only = on`,
      `ALTER ROLE ${ROLES.catalogue} RESET default_transaction_read_only`,
    ],
  ] as const)('PostgreSQL (%s), with %s: runs wait until it is over', async (server, _what, begin, end) => {
    const runs = [await at('after begin postgres'), await at('after begin undo-postgres', 'fails')];
    await asSuperuser(own.servers[server].url, begin);
    await cutConnections(own.servers[server].url);
    letGoOn(runs);
    await untilRecorded(runs, 'STORE_UNAVAILABLE');
    await asSuperuser(own.servers[server].url, end);
    await cutConnections(own.servers[server].url);
    await expectEnds(runs);
  });

  it.each([
    [
      'no connection to spare',
      `ALTER ROLE ${ROLES.catalogue} CONNECTION LIMIT 0`,
      `ALTER ROLE ${ROLES.catalogue} CONNECTION LIMIT -1`,
    ],
    [
      'a standby in its place',
      `ALTER ROLE ${ROLES.catalogue} SET default_transaction_read_only = on`,
      `ALTER ROLE ${ROLES.catalogue} RESET default_transaction_read_only`,
    ],
  ])('the catalogue, with %s: runs wait until it is over', async (_what, begin, end) => {
    const runs = [
      await at('before admit'),
      await at('before begin mongo'),
      await at('before finish redis'),
      await at('before activate'),
      await at('after begin undo-mongo', 'fails'),
      await at('before close', 'fails'),
    ];
    await asSuperuser(own.servers.control.url, begin);
    await cutConnections(own.servers.control.url);
    letGoOn(runs);
    for (const { point, handle } of runs.filter((run) => /begin|finish/.test(run.point)))
      await until(`${point}: the run says what it waits for`, async () => {
        const { raw } = await handle.describe();
        return raw.pendingActivities?.some(
          ({ lastFailure }) => lastFailure?.applicationFailureInfo?.type === 'CATALOGUE_UNAVAILABLE',
        );
      });
    await asSuperuser(own.servers.control.url, end);
    await cutConnections(own.servers.control.url);
    await expectEnds(runs);
  });
});

const cutConnections = (url: string): Promise<void> =>
  asSuperuser(
    url,
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${ROLES.catalogue}'`,
  );

async function asSuperuser(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
