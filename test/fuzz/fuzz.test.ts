/** The isolation fuzzer itself: it finds nothing where all is well, and finds each flaw that is planted. */
import { mongoDatabaseName, mongoUserName, redisUserName } from '../../domain/names.js';
import type { CellStores } from '../../tenancy/context/entered-tenant.js';
import type { ScopedPostgres } from '../../tenancy/postgres/scoped.js';
import { testStack } from '../support/stack.js';
import { createWorld, type World } from '../support/world.js';
import { fuzz, type FuzzOptions, type FuzzResult } from './fuzz.js';
import { randomFrom } from './random.js';
import type { Ground, Stage } from './stage.js';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function groundOf(world: World): Promise<Ground> {
  const { dependencies, env } = world;
  return {
    catalogue: world.catalogue,
    cell: await dependencies.cells.get(world.cell),
    manifest: world.manifest,
    layouts: dependencies.layouts,
    secrets: dependencies.secrets,
    rootKey: Buffer.from(env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
    resolveSecret: (reference) => env[reference.replace(/^env:/, '')] ?? '',
    lookupUrl: world.url('control', 'lookup'),
    cellAdminUrl: world.url('cell'),
  };
}

/** Seeds are each test's own: tenants are made from them, and the servers are shared. */
async function run(seed: number, options: Partial<FuzzOptions> = {}): Promise<FuzzResult> {
  const world = await createWorld();
  closing.push(() => world.close());
  return fuzz({
    ground: await groundOf(world),
    seed,
    tenants: 60,
    mongoTenants: 12,
    operations: 15_000,
    actors: 20,
    ...options,
  });
}

const asSuperuser =
  (statement: string) =>
  async ({ admin }: Stage) => {
    await admin.query(statement);
  };

test('nothing is wrong in some thousands of operations, and all that is looked for has been there', async () => {
  const { findings, wrong, unexpected, operations, byStore, answered, refused, faults } = await run(101);
  expect({ wrong, unexpected, findings }).toEqual({ wrong: 0, unexpected: 0, findings: [] });
  expect(operations).toBeGreaterThanOrEqual(15_000);
  expect(Object.keys(byStore).sort()).toEqual(['context', 'mongo', 'postgres', 'redis']);
  expect(answered + refused).toBeGreaterThan(operations / 2);
  expect(faults['suspension']).toBeGreaterThan(0);
});

describe('a flaw that is planted is found:', () => {
  test('a policy that lets everybody read a table', async () => {
    const found = await run(102, {
      prepare: asSuperuser(
        'CREATE POLICY everybody ON app.customers FOR SELECT TO tenantry_runtime USING (true)',
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'postgres' });
  });

  test('a policy that lets anybody write in the name of another', async () => {
    const found = await run(103, {
      prepare: asSuperuser(
        'CREATE POLICY anybody ON app.customers FOR INSERT TO tenantry_runtime WITH CHECK (true)',
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
  });

  test('a policy that does not read the gate: a suspended tenant goes on', async () => {
    const found = await run(104, {
      operations: 40_000,
      prepare: asSuperuser(
        `ALTER POLICY tenant_select ON app.customers
           USING (tenant_id = (SELECT current_setting('app.tenant_id')::uuid))`,
      ),
    });
    expect(found.findings[0]?.what).toMatch(/although it was blocked before it began/);
  });

  test('a Redis user whose keys are all keys', async () => {
    const found = await run(105, {
      operations: 200_000,
      prepare: async ({ ground, subjects }) => {
        for (const { tenantId } of subjects)
          await ground.cell.redis.acl('SETUSER', redisUserName(tenantId), 'allkeys');
      },
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'redis' });
  });

  test('a handle of one tenant that is given to another: it is refused, which is no failure of a fault', async () => {
    const found = await run(106, { around: keepingTheFirstHandle });
    expect(found.wrong).toBe(0);
    expect(found.unexpected).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'postgres' });
  });

  // A server that does not enforce is not asked past the guard, for what it does is known.
  const where = testStack().mongoEnforcement === 'server' ? test : test.skip;
  where('a MongoDB user that may read every database', async () => {
    const found = await run(107, {
      operations: 200_000,
      prepare: async ({ ground, subjects }) => {
        for (const { tenantId, hasMongo } of subjects)
          if (hasMongo)
            await ground.cell.mongo.db(mongoDatabaseName(tenantId)).command({
              grantRolesToUser: mongoUserName(tenantId),
              roles: [{ role: 'readAnyDatabase', db: 'admin' }],
            });
      },
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'mongo' });
  });
});

/** As a cache does that forgets to ask whose it is. */
function keepingTheFirstHandle(stores: CellStores): CellStores {
  let kept: ScopedPostgres | undefined;
  return {
    ...stores,
    pg: { forTenant: (context) => (kept ??= stores.pg.forTenant(context)) },
  };
}

test('a seed repeats its choices, and another one makes others', () => {
  const drawn = (...seed: number[]): number[] => {
    const random = randomFrom(...seed);
    return Array.from({ length: 20 }, () => random.below(1_000));
  };
  expect(drawn(7, 1)).toEqual(drawn(7, 1));
  expect(drawn(7, 1)).not.toEqual(drawn(7, 2));
  expect(drawn(7, 1)).not.toEqual(drawn(8, 1));
});
