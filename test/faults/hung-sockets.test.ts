/**
 * Connections to a store that hang, each in the middle of another statement, while the server itself is there: what was asked
 * is lost, or its answer is.
 */
import { createPool, transaction } from '../../catalogue/pool.js';
import { redisMarkerKey } from '../../domain/names.js';
import { connectCell } from '../../tenancy/cell-connections.js';
import { createHolds } from '../support/holds.js';
import { type Link, openLink } from '../support/link.js';
import { expectEnds, letGoOn, runTo, type StandingRun } from '../support/runs.js';
import { testStack } from '../support/stack.js';
import { createWorld, type World } from '../support/world.js';

const PATIENCE = { step: 30_000, undo: 30_000, attempt: 10_000 };
const SILENCE = { mongo: 1_000, redis: 1_000 };

const STATEMENTS = {
  redisUrl: {
    ways: ['hold', 'holdAnswers'],
    forward: ['after begin redis', 'before SETUSER', 'after begin verify'],
    backward: ['before DELUSER', 'before GET'],
  },
  mongoUrl: {
    // The driver looks after its server every 10 s, so that one way is enough to wait for.
    ways: ['holdAnswers'],
    forward: [
      'after begin mongo',
      'before createRole',
      'before createUser',
      'before create',
      'before createIndexes',
      'after begin verify',
    ],
    backward: ['before dropRole', 'before dropDatabase', 'before dropUser', 'before usersInfo'],
  },
} as const;

describe.each(['redisUrl', 'mongoUrl'] as const)('%s', (server) => {
  const { ways, forward, backward } = STATEMENTS[server];
  const holds = createHolds();
  let link: Link;
  let world: World;
  beforeAll(async () => {
    link = await openLink(testStack()[server]);
    world = await createWorld({ servers: { [server]: link.url }, silence: SILENCE });
    await world.startWorker(holds.stepIn);
  });
  afterAll(async () => {
    await world.close();
    link.cut();
    await link.close();
  });

  it.each<'hold' | 'holdAnswers'>(ways)('%s: each run ends as it would have', async (how) => {
    const runs: StandingRun[] = [];
    for (const point of forward) runs.push(await runTo({ world, holds, patience: PATIENCE }, point));
    for (const point of backward)
      runs.push(await runTo({ world, holds, patience: PATIENCE }, point, 'fails'));
    link[how]();
    letGoOn(runs);
    await expectEnds(runs);
  });
});

it('a command to Redis that failed for the silence is not sent again when there is another connection', async () => {
  const link = await openLink(testStack().redisUrl);
  const world = await createWorld();
  const { cell } = await world.dependencies.cells.get(world.cell);
  const { tenantId } = await world.ask();
  const url: Record<string, string> = { ...world.env, TENANTRY_CELL_REDIS_URL: link.url };
  const there = connectCell(cell, {
    resolveSecret: (reference) => url[reference.replace(/^env:/, '')] ?? '',
    poolSize: 1,
    silence: SILENCE,
  });
  try {
    await there.redis.ping();
    const again = new Promise((resolve) => there.redis.once('ready', resolve));
    link.hold();
    await expect(there.redis.set(redisMarkerKey(tenantId), 'too late')).rejects.toThrow();
    link.cut();
    await again;
    expect(await there.redis.get(redisMarkerKey(tenantId))).toBe(null);
  } finally {
    await there.close();
    await link.close();
    await world.close();
  }
});

it('a transaction whose connection hangs fails with the first statement that is not answered', async () => {
  const world = await createWorld();
  const link = await openLink(world.url('control', 'catalogue'));
  const statementTimeout = 500;
  const pool = createPool({ url: link.url, name: 'hung', max: 1, statementTimeout });
  try {
    const begun = performance.now();
    const hung = transaction(pool, async (client) => {
      await client.query('SELECT 1');
      link.hold();
      await client.query('SELECT 2');
    });
    await expect(hung).rejects.toThrow('Query read timeout');
    // Each statement is given up after two seconds more than the server would have taken.
    expect(performance.now() - begun).toBeLessThan(2 * (statementTimeout + 2_000));
    expect((await pool.query('SELECT 3 AS three')).rows).toEqual([{ three: 3 }]);
  } finally {
    await pool.end();
    link.cut();
    await link.close();
    await world.close();
  }
});
