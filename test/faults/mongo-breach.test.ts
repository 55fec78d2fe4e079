/** As `breach`, of MongoDB: a role or a user of it that lets another tenant through. */
import type { TenantId } from '../../domain/ids.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { canaryId } from '../../tenancy/canary.js';
import { createHolds } from '../support/holds.js';
import { createWorld, type World } from '../support/world.js';
import {
  type Change,
  expectBreach,
  expectFailureOfOne,
  expectNoticed,
  expectNoticedInABatch,
  startLookingWorker,
  type Way,
} from './support/breach.js';

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

describe('MongoDB that lets another tenant through', () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker(holds.stepIn);
  });
  afterAll(() => world.close());

  it.each(IN_MONGO)('$way: no tenant, and one after it was mended', (way) =>
    expectNoticed(world, holds, way),
  );

  it.each(IN_MONGO.filter(({ says }) => /reads/.test(says)))(
    '$way: no tenant of the chunk, and all of them after it was mended',
    (way) => expectNoticedInABatch(world, holds, way),
  );
});

describe("what a batch's look into MongoDB's users and roles finds, nobody being probed", () => {
  let world: World;
  const holds = createHolds();
  beforeAll(async () => {
    world = await createWorld();
    await startLookingWorker(world, holds);
  });
  afterAll(() => world.close());

  it.each<[string, Change]>([
    [
      'a role that may do more than declared',
      (_, tenantId) => widened(world, tenantId, ['find', 'insert', 'update', 'remove', 'dropCollection']),
    ],
    [
      'a user with another role beside its own',
      (_, tenantId) => granted(world, tenantId, [{ role: 'read', db: mongoDatabaseName(tenantId) }]),
    ],
  ])('%s is a breach', (_what, change) => expectBreach(world, holds, change));

  it.each<[string, Change]>([
    [
      'a collection that is gone',
      async (_, tenantId) => {
        const { mongo } = await world.dependencies.cells.get(world.cell);
        await mongo.db(mongoDatabaseName(tenantId)).collection('events').drop();
      },
    ],
    ['a role that may do less than declared', (_, tenantId) => widened(world, tenantId, ['find'])],
  ])('%s fails that tenant alone', (_what, change) => expectFailureOfOne(world, holds, change));
});

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
