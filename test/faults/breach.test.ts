/**
 * A store that lets another tenant through: made so in the real store before the verification, which must notice, say
 * where, never try again, and leave nothing and nobody behind.
 */
import { randomUUID } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import pg from 'pg';
import { ROLES } from '../../catalogue/bootstrap.js';
import { ADMIT, PROVISION_BATCH, type ProvisionBatchInput } from '../../domain/contracts.js';
import type { OperationId, TenantId } from '../../domain/ids.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName, redisUserName } from '../../domain/names.js';
import { batchWorkflowId } from '../../domain/workflow-ids.js';
import { canaryId } from '../../tenancy/canary.js';
import { reconcileNamespaces } from '../../tenancy/redis/reconcile.js';
import { expectActive, expectCanary, expectNothingLeft, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { SHORT, startProvision } from '../support/provision.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

/** A change in a store, as somebody who may make it. */
type Change = (world: World, tenantId: TenantId) => Promise<unknown>;

interface Way {
  /** What it is that lets another through. */
  readonly way: string;
  readonly open: Change;
  readonly mend: Change;
  /** How the operation says where. */
  readonly says: string;
  /** What the MongoDB server must have been found to refuse at its trial. */
  readonly needs?: readonly string[];
}

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

const FIND = "find in another's database";
const WRITES = {
  insert: "insert into another's database",
  update: "update in another's database",
  remove: "delete in another's database",
} as const;

const IN_MONGO: readonly Way[] = [
  {
    way: 'the canary may read the tenant',
    ...canaryMay('read'),
    needs: [FIND],
    says: 'MongoDB let one tenant reach another (other reads transcripts)',
  },
  ...(['insert', 'update', 'remove'] as const).map(
    (action): Way => ({
      way: `the canary may ${action} in the tenant's, and not read`,
      ...canaryMay(action),
      says: `MongoDB let one tenant reach another (other ${action}s in transcripts)`,
      needs: [FIND, WRITES[action]],
    }),
  ),
  {
    way: 'the tenant may read the canary',
    async open(world, tenantId) {
      await granted(world, tenantId, [{ role: 'read', db: mongoDatabaseName(canaryId(world.cell)) }]);
      // Not every server gives rights to a connection that is open: the probe logs in anew.
      await world.dependencies.warmClients.close();
    },
    mend: () => Promise.resolve(),
    needs: [FIND],
    says: "MongoDB let one tenant reach another (tenant reads the other's transcripts)",
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

  it.each([...IN_POSTGRES, ...IN_MONGO, ...IN_REDIS])('$way: no tenant, and one after it was mended', (way) =>
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
    ...IN_MONGO.filter(({ says }) => /reads/.test(says)),
    ...IN_REDIS.filter(({ says }) => /\((other reads|tenant reads)/.test(says)),
  ])('$way: no tenant of the chunk, and all of them after it was mended', async (way) => {
    if (await isLetThroughAnyway(world, way)) return;
    const operationId = await askForBatch(world, 3);
    const hold = holds.at('before batchVerify');
    const { handle } = await startBatch(world, operationId);
    await hold.reached;
    const tenants = await tenantsOf(world, operationId);
    await way.open(world, tenants[1] as TenantId);
    hold.release();
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    await expectCondemned(world, operationId, '1-3', tenants);

    await way.mend(world, tenants[1] as TenantId);
    expect(await (await startBatch(world, operationId, 2)).handle.result()).toEqual({ status: 'succeeded' });
    for (const tenantId of tenants)
      expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'active' });
  });

  it('is found in every chunk, when it is the whole cell that is open', async () => {
    const operationId = await askForBatch(world, 4);
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
    const operationId = await askForBatch(world, 4);
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
    const { activities } = world;
    await world.startWorker({
      activities: { ...activities, batchVerify: (asked) => activities.batchVerify({ ...asked, sample: 0 }) },
      interceptors: holds.stepIn.interceptors,
    });
  });
  afterAll(() => world.close());

  const after = async (change: Change) => {
    const operationId = await askForBatch(world, 3);
    const hold = holds.at('before batchVerify');
    const { handle } = await startBatch(world, operationId);
    await hold.reached;
    const tenants = await tenantsOf(world, operationId);
    await change(world, tenants[1] as TenantId);
    hold.release();
    return { operationId, tenants, handle };
  };

  // What is changed of one tenant goes with it; what is the cell's is mended.
  it.each<{ what: string; change: Change; mend?: Change }>([
    { what: 'a Redis user that may use all keys', change: acl(theTenant, '~*') },
    { what: 'a Redis user that may change all keys', change: acl(theTenant, '%W~*') },
    {
      what: 'a Redis user that may publish to all channels',
      change: acl(theTenant, '&*', '+publish'),
    },
    { what: 'a Redis user that may list keys', change: acl(theTenant, '+keys') },
    {
      what: 'a MongoDB role that may do more than declared',
      change: (world, tenantId) =>
        widened(world, tenantId, ['find', 'insert', 'update', 'remove', 'dropCollection']),
    },
    {
      what: 'a MongoDB user with another role beside its own',
      change: (world, tenantId) =>
        granted(world, tenantId, [{ role: 'read', db: mongoDatabaseName(tenantId) }]),
    },
    {
      what: 'a table whose row-level security is not forced',
      change: asOwner('ALTER TABLE app.messages NO FORCE ROW LEVEL SECURITY'),
      mend: asOwner('ALTER TABLE app.messages FORCE ROW LEVEL SECURITY'),
    },
    { what: 'a policy that lets all rows through', change: ALL_ROWS.open, mend: ALL_ROWS.mend },
  ])('$what is a breach', async ({ change, mend }) => {
    const { operationId, tenants, handle } = await after(change);
    try {
      await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    } finally {
      await mend?.(world, tenants[1] as TenantId);
    }
    await expectCondemned(world, operationId, '1-3', tenants);
  });

  it.each<[string, Change]>([
    [
      'a gate that is not open',
      (world, tenantId) =>
        asOwner(
          `SET ROLE ${ROLES.owner}; ALTER TABLE tenantry.gate NO FORCE ROW LEVEL SECURITY;
           UPDATE tenantry.gate SET mode = 'blocked' WHERE tenant_id = '${tenantId}';
           ALTER TABLE tenantry.gate FORCE ROW LEVEL SECURITY`,
        )(world),
    ],
    [
      'a collection that is gone',
      async (world, tenantId) => {
        const { mongo } = await world.dependencies.cells.get(world.cell);
        await mongo.db(mongoDatabaseName(tenantId)).collection('events').drop();
      },
    ],
    [
      'a MongoDB role that may do less than declared',
      (world, tenantId) => widened(world, tenantId, ['find']),
    ],
  ])('%s fails that tenant alone', async (_what, change) => {
    const { operationId, tenants, handle } = await after(change);
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'BATCH_INCOMPLETE' } });
    const items = await world.catalogue.operations.batchItems(operationId);
    expect(items.map(({ status, error }) => [status, error?.code])).toEqual([
      ['succeeded', undefined],
      ['failed', 'VERIFICATION_FAILED'],
      ['succeeded', undefined],
    ]);
    await expectNothingLeft(world, tenants[1] as TenantId);
    expect(await stepOf(world, operationId, 'verify 1-3')).toMatchObject({ attempts: 1 });
  });

  it('a Redis user that is gone is waited for, as Redis is told its users again when it was away', async () => {
    const operationId = await askForBatch(world, 3);
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
    await failedOnce(world, operationId, 'verify 1-3', 'VERIFICATION_FAILED');
    await redis.acl('SETUSER', user, ...(before?.split(' ').slice(2) ?? []));
    await again.reached;
    again.release();
    expect(await handle.result()).toEqual({ status: 'succeeded' });
  });
});

async function expectNoticed(world: World, holds: ReturnType<typeof createHolds>, way: Way): Promise<void> {
  if (await isLetThroughAnyway(world, way)) return;
  const asked = await world.ask();
  const hold = holds.at('after begin verify');
  const { handle } = await startProvision(world, asked);
  await hold.reached;
  await way.open(world, asked.tenantId);
  hold.release();
  try {
    await expect(handle.result()).rejects.toMatchObject({
      cause: {
        type: 'ISOLATION_BREACH',
        nonRetryable: true,
        message: expect.stringContaining(way.says) as string,
      },
    });
    expect(await stepOf(world, asked.operationId, 'verify')).toMatchObject({
      status: 'failed',
      attempts: 1,
      lastError: { code: 'ISOLATION_BREACH', message: `A probe found that ${way.says}.` },
    });
    await expectUndone(world, asked, { status: 'failed', code: 'ISOLATION_BREACH' });
  } finally {
    await way.mend(world, asked.tenantId);
  }
  const { handle: retried } = await startProvision(world, { ...asked, attempt: 2 });
  expect(await retried.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
  await expectCanary(world);
}

/** Nothing of the chunk is left or active, each of its tenants says why, and it was tried once. */
async function expectCondemned(
  world: World,
  operationId: OperationId,
  chunk: string,
  tenants: readonly TenantId[],
): Promise<void> {
  const breach = {
    code: 'ISOLATION_BREACH',
    message: expect.stringMatching(
      /^A probe found that \w+ let one tenant reach another \(.+\)\.$/,
    ) as string,
  };
  expect(await stepOf(world, operationId, `verify ${chunk}`)).toMatchObject({
    status: 'failed',
    attempts: 1,
    lastError: breach,
  });
  const items = await world.catalogue.operations.batchItems(operationId);
  for (const tenantId of tenants) {
    expect(items.find((item) => item.tenantId === tenantId)).toMatchObject({
      status: 'failed',
      error: breach,
    });
    expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'failed' });
    await expectNothingLeft(world, tenantId);
  }
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({ status: 'failed', residue: [] });
}

/** A server that lets it through on any day has nothing to notice. Said aloud, so that nobody takes it for tried. */
async function isLetThroughAnyway(world: World, { way, needs = [] }: Way): Promise<boolean> {
  const { trial } = (await world.dependencies.cells.get(world.cell)).cell;
  const holes = needs.filter((name) => trial?.refused.includes(name) !== true);
  if (holes.length === 0) return false;
  process.stderr.write(`not tried: ${way}; MongoDB does not refuse to ${holes.join(', ')}\n`);
  return true;
}

async function stepOf(world: World, operationId: OperationId, name: string) {
  return (await world.catalogue.operations.steps(operationId)).find((step) => step.name === name);
}

const failedOnce = (world: World, operationId: OperationId, name: string, code: string) =>
  until(`${name} has failed with ${code}`, async () => {
    const step = await stepOf(world, operationId, name);
    return step?.lastError?.code === code;
  });

async function askForBatch(world: World, count: number): Promise<OperationId> {
  const tenants = Array.from({ length: count }, () => ({
    slug: `b-${randomUUID().slice(0, 13)}`,
    name: 'Acme',
    plan: 'team',
  }));
  const intake = await world.catalogue.requests.intake({ kind: 'provision-batch', body: { tenants } });
  return intake.operationId;
}

async function startBatch(world: World, operationId: OperationId, attempt = 1, chunkSize = 10) {
  const input: ProvisionBatchInput = { operationId, attempt, patience: SHORT, chunkSize };
  const startWorkflowOperation = new WithStartWorkflowOperation(PROVISION_BATCH, {
    workflowId: batchWorkflowId(operationId),
    taskQueue: world.taskQueue,
    args: [input],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  await world.temporal.workflow.executeUpdateWithStart(ADMIT, {
    startWorkflowOperation,
    args: [{ operationId }],
    updateId: `${operationId}/${attempt}`,
  });
  return { handle: await startWorkflowOperation.workflowHandle() };
}

async function tenantsOf(world: World, operationId: OperationId): Promise<TenantId[]> {
  const items = await world.catalogue.operations.batchItems(operationId);
  return items.flatMap(({ tenantId }) => (tenantId === null ? [] : [tenantId]));
}

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

/** An action in the tenant's database, by a role that the canary's user is given beside its own. */
function canaryMay(action: 'read' | 'insert' | 'update' | 'remove'): Pick<Way, 'open' | 'mend'> {
  const roleOf = (tenantId: TenantId): string => `breach-${tenantId}`;
  return {
    async open(world, tenantId) {
      const { mongo } = await world.dependencies.cells.get(world.cell);
      const resource = { db: mongoDatabaseName(tenantId), collection: '' };
      const role = roleOf(tenantId);
      // Rights in several databases are for roles of `admin`.
      await mongo.db('admin').command({
        createRole: role,
        privileges: [{ resource, actions: [action === 'read' ? 'find' : action] }],
        roles: [],
      });
      await granted(world, canaryId(world.cell), [{ role, db: 'admin' }]);
      await canaryLogsInAnew(world);
    },
    async mend(world, tenantId) {
      const { mongo } = await world.dependencies.cells.get(world.cell);
      await mongo.db('admin').command({ dropRole: roleOf(tenantId) });
      await canaryLogsInAnew(world);
    },
  };
}

/** Not every server gives rights to a connection that is open, or takes them from it. */
async function canaryLogsInAnew(world: World): Promise<void> {
  const { canary: connected } = await world.dependencies.cells.get(world.cell);
  await connected?.mongo.close();
  await connected?.mongo.connect();
}

async function granted(
  world: World,
  tenantId: TenantId,
  roles: readonly { role: string; db: string }[],
): Promise<void> {
  const { mongo } = await world.dependencies.cells.get(world.cell);
  await mongo
    .db(mongoDatabaseName(tenantId))
    .command({ grantRolesToUser: mongoUserName(tenantId), roles: [...roles] });
}

async function widened(world: World, tenantId: TenantId, actions: readonly string[]): Promise<void> {
  const { mongo } = await world.dependencies.cells.get(world.cell);
  const db = mongoDatabaseName(tenantId);
  const privileges = Object.keys(world.manifest.mongo.collections).map((collection) => ({
    resource: { db, collection },
    actions: [...actions],
  }));
  await mongo.db(db).command({ updateRole: MONGO_ROLE, privileges });
}
