/** The isolation fuzzer itself: it finds nothing where all is well, and finds a flaw of MongoDB. For others see `planted`. */
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { findPgBouncer } from '../support/pgbouncer.js';
import { testStack } from '../support/stack.js';
import { waysWith } from './ground.js';
import { randomFrom } from './random.js';
import { shortRun } from './short-run.js';

test('nothing is wrong in some thousands of operations, and all that is looked for has been there', async () => {
  const pgbouncer = await findPgBouncer();
  const ways = waysWith(pgbouncer);
  const found = await shortRun(101, { ways, pgbouncer, operations: 30_000, mongoTenants: 12 });
  const { findings, wrong, unexpected, operations, byStore, byWay, answered, refused, faults } = found;
  expect({ wrong, unexpected, findings }).toEqual({ wrong: 0, unexpected: 0, findings: [] });
  expect(operations).toBeGreaterThanOrEqual(30_000);
  expect(Object.keys(byStore).sort()).toEqual(['context', 'mongo', 'postgres', 'redis']);
  expect(Object.keys(byWay).sort()).toEqual(ways.toSorted());
  expect(answered + refused).toBeGreaterThan(operations / 2);
  expect(faults['suspension']).toBeGreaterThan(0);
  // PgBouncer may have to be installed.
}, 300_000);

// A server that does not enforce is not asked past the guard, for what it does is known.
const enforces = testStack().mongoEnforcement === 'server';
if (!enforces)
  process.stderr.write('not planted: a MongoDB user may read others; this server lets users anyway\n');
(enforces ? test : test.skip)(
  'a flaw that is planted is found: a MongoDB user that may read every database',
  async () => {
    const found = await shortRun(107, {
      operations: 200_000,
      mongoTenants: 12,
      prepare: async ({ ground, subjects }) => {
        for (const { tenantId, hasMongo } of subjects)
          if (hasMongo)
            await ground.cells[0].mongo.db(mongoDatabaseName(tenantId)).command({
              grantRolesToUser: mongoUserName(tenantId),
              roles: [{ role: 'readAnyDatabase', db: 'admin' }],
            });
      },
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'mongo' });
  },
);

test('a seed repeats its choices, and another one makes others', () => {
  const drawn = (...seed: number[]): number[] => {
    const random = randomFrom(...seed);
    return Array.from({ length: 20 }, () => random.below(1_000));
  };
  expect(drawn(7, 1)).toEqual(drawn(7, 1));
  expect(drawn(7, 1)).not.toEqual(drawn(7, 2));
  expect(drawn(7, 1)).not.toEqual(drawn(8, 1));
});
