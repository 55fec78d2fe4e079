/**
 * A store that lets another tenant through: made so in the real store before the verification, which must notice, say
 * where, never try again, and leave nothing and nobody behind. MongoDB's ways are in `mongo-breach`.
 */
import pg from 'pg';
import { ROLES } from '../../catalogue/bootstrap.js';
import type { TenantId } from '../../domain/ids.js';
import { redisUserName } from '../../domain/names.js';
import { canaryId } from '../../tenancy/canary.js';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { askForBatch, newSlugs, startBatch } from '../support/batch.js';
import { createHolds } from '../support/holds.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import {
  type Change,
  expectBreach,
  expectCondemned,
  expectFailureOfOne,
  expectNoticed,
  expectNoticedInABatch,
  startLookingWorker,
  stepOf,
  tenantsOf,
  type Way,
} from './support/breach.js';

const IN_POSTGRES: readonly Way[] = [
  {
    way: 'row-level security disabled on a table',
    open: asOwner('ALTER TABLE app.messages DISABLE ROW LEVEL SECURITY'),
    mend: asOwner('ALTER TABLE app.messages ENABLE ROW LEVEL SECURITY'),
    says: 'PostgreSQL let one tenant reach another (read messages)',
  },
  {
    way: 'row-level security no longer forced on a table',
    open: asOwner('ALTER TABLE app.messages NO FORCE ROW LEVEL SECURITY'),
    mend: asOwner('ALTER TABLE app.messages FORCE ROW LEVEL SECURITY'),
    says: 'PostgreSQL let one tenant reach another (row-level security of messages)',
  },
  {
    way: 'another policy by which all rows are read',
    open: asOwner('CREATE POLICY all_rows ON app.conversations FOR SELECT USING (true)'),
    mend: asOwner('DROP POLICY all_rows ON app.conversations'),
    says: 'PostgreSQL let one tenant reach another (read conversations)',
  },
  {
    way: 'another policy by which any row is inserted',
    open: asOwner('CREATE POLICY any_row ON app.messages FOR INSERT WITH CHECK (true)'),
    mend: asOwner('DROP POLICY any_row ON app.messages'),
    says: 'PostgreSQL let one tenant reach another (write messages)',
  },
  {
    way: 'another policy by which all rows are changed, and none is read',
    open: asOwner('CREATE POLICY any_change ON app.customers FOR UPDATE TO tenantry_runtime USING (true)'),
    mend: asOwner('DROP POLICY any_change ON app.customers'),
    says: 'PostgreSQL let one tenant reach another (a policy of customers)',
  },
  {
    way: 'another policy by which all rows are deleted, and none is read',
    open: asOwner('CREATE POLICY any_end ON app.conversations FOR DELETE TO PUBLIC USING (true)'),
    mend: asOwner('DROP POLICY any_end ON app.conversations'),
    says: 'PostgreSQL let one tenant reach another (a policy of conversations)',
  },
  {
    way: 'a policy of ours that was widened',
    open: asOwner('ALTER POLICY tenant_select ON app.customers USING (true)'),
    mend: asOwner(
      `ALTER POLICY tenant_select ON app.customers USING (tenant_id = (SELECT g.tenant_id FROM tenantry.gate g
         WHERE g.tenant_id = current_setting('app.tenant_id')::uuid AND g.mode IN ('open', 'read-only')))`,
    ),
    says: 'PostgreSQL let one tenant reach another (read customers)',
  },
];

const ALL_ROWS = {
  open: asOwner('CREATE POLICY all_rows ON app.messages FOR SELECT USING (true)'),
  mend: asOwner('DROP POLICY all_rows ON app.messages'),
};

/** Roles are the whole server's, so these are for a server of this file's own. */
const BY_A_ROLE: readonly Way[] = [
  {
    way: "the product's role beyond row-level security",
    open: asSuperuser(`ALTER ROLE ${ROLES.runtime} BYPASSRLS`),
    mend: asSuperuser(`ALTER ROLE ${ROLES.runtime} NOBYPASSRLS`),
    says: 'PostgreSQL let one tenant reach another (read customers)',
  },
  {
    way: "the product's role a superuser",
    open: asSuperuser(`ALTER ROLE ${ROLES.runtime} SUPERUSER`),
    mend: asSuperuser(`ALTER ROLE ${ROLES.runtime} NOSUPERUSER`),
    says: 'PostgreSQL let one tenant reach another (read customers)',
  },
  {
    way: "the product's role a member of the one that owns the tables",
    open: asSuperuser(`GRANT ${ROLES.owner} TO ${ROLES.runtime}`),
    mend: asSuperuser(`REVOKE ${ROLES.owner} FROM ${ROLES.runtime}`),
    says: 'PostgreSQL let one tenant reach another (the role of the product)',
  },
];

const IN_REDIS: readonly Way[] = [
  {
    way: 'the canary may use all keys',
    open: acl(canary, '~*'),
    mend: redisUsersAnew,
    says: 'Redis let one tenant reach another (other reads)',
  },
  {
    way: 'the canary may change all keys, and not read them',
    open: acl(canary, '%W~*'),
    mend: redisUsersAnew,
    says: 'Redis let one tenant reach another (other writes)',
  },
  {
    way: 'the canary may publish to all channels',
    open: acl(canary, '&*', '+publish'),
    mend: redisUsersAnew,
    says: 'Redis let one tenant reach another (other publishes)',
  },
  {
    way: 'the tenant may use all keys',
    open: acl(theTenant, '~*'),
    mend: () => Promise.resolve(),
    says: "Redis let one tenant reach another (tenant reads the other's key)",
  },
  {
    way: 'the tenant may change all keys, and not read them',
    open: acl(theTenant, '%W~*'),
    mend: () => Promise.resolve(),
    says: "Redis let one tenant reach another (tenant removes the other's key)",
  },
  {
    way: 'the tenant may list keys',
    open: acl(theTenant, '+scan'),
    mend: () => Promise.resolve(),
    says: 'Redis let one tenant reach another (tenant lists keys)',
  },
];

describe('a store that lets another tenant through', () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker(holds.stepIn);
  });
  afterAll(() => world.close());

  it.each([...IN_POSTGRES, ...IN_REDIS])('$way: no tenant, and one after it was mended', (way) =>
    expectNoticed(world, holds, way),
  );
});

describe("a role of PostgreSQL's that lets another tenant through", () => {
  let own: OwnServers<'cell'>;
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    own = await startOwnServers(['cell']);
    world = await createWorld(own.world);
    await world.startWorker(holds.stepIn);
  });
  afterAll(async () => {
    await world.close();
    await own.close();
  });

  it.each(BY_A_ROLE)('$way: no tenant, and one after it was mended', (way) =>
    expectNoticed(world, holds, way),
  );
});

describe('a store that lets another tenant through, in a batch', () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker(holds.stepIn);
  });
  afterAll(() => world.close());

  it.each([
    ...IN_POSTGRES.filter(({ says }) => /read conversations|of messages/.test(says)),
    ...IN_REDIS.filter(({ says }) => /\((other reads|tenant reads)/.test(says)),
  ])('$way: no tenant of the chunk, and all of them after it was mended', (way) =>
    expectNoticedInABatch(world, holds, way),
  );

  it('is found in every chunk, when it is the whole cell that is open', async () => {
    const operationId = await askForBatch(world, newSlugs(4));
    const hold = holds.at('before batchVerify');
    const { handle } = await startBatch(world, operationId, 1, 2);
    await hold.reached;
    await ALL_ROWS.open(world);
    hold.release();
    try {
      await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    } finally {
      await ALL_ROWS.mend(world);
    }
    const tenants = await tenantsOf(world, operationId);
    await expectCondemned(world, operationId, '1-2', tenants.slice(0, 2));
    await expectCondemned(world, operationId, '3-4', tenants.slice(2));
  });

  it('by one tenant condemns its chunk, and the other chunks go on', async () => {
    const operationId = await askForBatch(world, newSlugs(4));
    const hold = holds.at('before batchVerify');
    const { handle } = await startBatch(world, operationId, 1, 2);
    await hold.reached;
    // Whichever chunk comes first: this one's users must be there.
    await until('the users of the first chunk are there', async () => {
      const step = await stepOf(world, operationId, 'redis 1-2');
      return step?.status === 'succeeded';
    });
    const tenants = await tenantsOf(world, operationId);
    await acl(theTenant, '~*')(world, tenants[0] as TenantId);
    hold.release();
    await expect(handle.result()).rejects.toMatchObject({
      cause: { type: 'BATCH_INCOMPLETE', message: expect.stringContaining('2 of 4') as string },
    });
    await expectCondemned(world, operationId, '1-2', tenants.slice(0, 2));
    for (const tenantId of tenants.slice(2))
      expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'active' });
  });
});

describe("what a batch's look into the stores' catalogues finds, nobody being probed", () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await startLookingWorker(world, holds);
  });
  afterAll(() => world.close());

  it.each<{ what: string; change: Change; mend?: Change }>([
    { what: 'a Redis user that may use all keys', change: acl(theTenant, '~*') },
    { what: 'a Redis user that may change all keys', change: acl(theTenant, '%W~*') },
    {
      what: 'a Redis user that may publish to all channels',
      change: acl(theTenant, '&*', '+publish'),
    },
    { what: 'a Redis user that may list keys', change: acl(theTenant, '+keys') },
    {
      what: 'a table whose row-level security is not forced',
      change: asOwner('ALTER TABLE app.messages NO FORCE ROW LEVEL SECURITY'),
      mend: asOwner('ALTER TABLE app.messages FORCE ROW LEVEL SECURITY'),
    },
    { what: 'a policy that lets all rows through', change: ALL_ROWS.open, mend: ALL_ROWS.mend },
  ])('$what is a breach', ({ change, mend }) => expectBreach(world, holds, change, mend));

  it('a gate that is not open fails that tenant alone', () =>
    expectFailureOfOne(world, holds, (_, tenantId) =>
      asOwner(
        `SET ROLE ${ROLES.owner}; ALTER TABLE tenantry.gate NO FORCE ROW LEVEL SECURITY;
         UPDATE tenantry.gate SET mode = 'blocked' WHERE tenant_id = '${tenantId}';
         ALTER TABLE tenantry.gate FORCE ROW LEVEL SECURITY`,
      )(world),
    ));

  it('a Redis user that is gone is waited for, as Redis is told its users again when it was away', async () => {
    const operationId = await askForBatch(world, newSlugs(3));
    const hold = holds.at('before batchVerify');
    const { handle } = await startBatch(world, operationId);
    await hold.reached;
    const [, tenantId] = await tenantsOf(world, operationId);
    const { redis } = await world.dependencies.cells.get(world.cell);
    const user = redisUserName(tenantId as TenantId);
    const before = (await redis.acl('LIST')).find((line) => line.startsWith(`user ${user} `));
    await redis.acl('DELUSER', user);
    const again = holds.at('after batchVerify');
    hold.release();
    await until('it was looked for in vain', async () => {
      const step = await stepOf(world, operationId, 'verify 1-3');
      return step?.lastError?.code === 'VERIFICATION_FAILED';
    });
    await redis.acl('SETUSER', user, ...(before?.split(' ').slice(2) ?? []));
    await again.reached;
    again.release();
    expect(await handle.result()).toEqual({ status: 'succeeded' });
  });
});

function asOwner(statement: string): (world: World) => Promise<void> {
  return (world) => statementAt(world.url('cell', 'owner'), statement);
}

function asSuperuser(statement: string): (world: World) => Promise<void> {
  return (world) => statementAt(world.url('cell'), statement);
}

async function statementAt(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

type Whose = (world: World, tenantId: TenantId) => TenantId;
function canary(world: World): TenantId {
  return canaryId(world.cell);
}
function theTenant(_world: World, tenantId: TenantId): TenantId {
  return tenantId;
}

/** Rules beside those that the user has. */
function acl(whose: Whose, ...rules: string[]): Change {
  return async (world, tenantId) => {
    const { redis } = await world.dependencies.cells.get(world.cell);
    await redis.acl('SETUSER', redisUserName(whose(world, tenantId)), ...rules);
  };
}

/** As it should be, like that of every other tenant. */
async function redisUsersAnew(world: World): Promise<void> {
  const { catalogue, secrets, cells } = world.dependencies;
  const { redis } = await cells.get(world.cell);
  await reconcileNamespaces(catalogue, secrets, redis, world.cell);
}
