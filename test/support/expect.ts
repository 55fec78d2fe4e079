/** What a tenant is to look like when its provisioning has ended, asked of the ledger and of every store. */
import type { OperationId, TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, redisUserName } from '../../domain/names.js';
import { canaryId } from '../../tenancy/canary.js';
import { probeTenant } from '../../activities/probe.js';
import { expectAgreement } from './agreement.js';
import { stepsOf } from './recorded.js';
import type { World } from './world.js';

interface Asked {
  readonly tenantId: TenantId;
  readonly operationId: OperationId;
}

/** Active, every effect there exactly once, and isolated as on the first day. */
export async function expectActive(world: World, { tenantId, operationId }: Asked): Promise<void> {
  const { catalogue, manifest, dependencies } = world;
  expect(await catalogue.operations.find(operationId)).toMatchObject({
    status: 'succeeded',
    error: null,
    residue: [],
  });
  expect(await catalogue.tenants.find(tenantId)).toMatchObject({ state: 'active' });
  const steps = await stepsOf({ catalogue }, operationId);
  expect(steps.filter((step) => step.status !== 'succeeded')).toEqual([]);
  const ledger = await catalogue.tenants.allocations(tenantId);
  expect(new Set(ledger.map((allocation) => allocation.state))).toEqual(new Set(['verified']));
  const found = await expectAgreement(world, tenantId);
  expect(found).toHaveLength(ledger.length);

  const cell = await dependencies.cells.get(world.cell);
  const database = cell.mongo.db(mongoDatabaseName(tenantId));
  const collections = await database.listCollections({}, { nameOnly: true }).toArray();
  expect(collections.map(({ name }) => name).toSorted()).toEqual(
    Object.keys(manifest.mongo.collections).toSorted(),
  );
  for (const { name, indexes } of dependencies.layouts) {
    const present = await database.collection(name).listIndexes().toArray();
    expect(present.map((index) => String(index['name'])).toSorted()).toEqual(
      ['_id_', ...indexes.map((index) => index.name)].toSorted(),
    );
    // A probe that died left nothing behind, or the next one took it away.
    expect(await database.collection(name).countDocuments()).toBe(0);
  }
  expect((await database.command({ usersInfo: 1 }))['users']).toHaveLength(1);
  expect((await database.command({ rolesInfo: 1 }))['roles']).toHaveLength(1);
  expect(await gatesOf(world, tenantId)).toEqual([{ mode: 'open' }]);
  const users = await cell.redis.acl('USERS');
  expect(users.filter((user) => user === redisUserName(tenantId))).toHaveLength(1);

  // The passwords in the catalogue are the ones that the stores know.
  const { rows } = await catalogue.pool.query<{ store: 'mongo' | 'redis'; version: number; sealed: Buffer }>(
    'SELECT store, version, sealed FROM credential WHERE tenant_id = $1',
    [tenantId],
  );
  const open = (store: 'mongo' | 'redis'): string => {
    const credential = rows.find((row) => row.store === store);
    if (credential === undefined) throw new Error(`no credential of ${store}`);
    return dependencies.secrets.open(credential.sealed, { tenantId, store, version: credential.version });
  };
  await probeTenant(dependencies, {
    tenantId,
    connections: cell,
    passwords: { mongo: open('mongo'), redis: open('redis') },
  });
}

/** Nothing of the tenant in any store, and the ledger says so. */
export async function expectNothingLeft(world: World, tenantId: TenantId): Promise<void> {
  expect(await expectAgreement(world, tenantId)).toEqual([]);
  const ledger = await world.catalogue.tenants.allocations(tenantId);
  expect(ledger.filter((allocation) => allocation.state !== 'released')).toEqual([]);
}

/** Failed or cancelled, undone everywhere, and the tenant waits for a retry. */
export async function expectUndone(
  world: World,
  { tenantId, operationId }: Asked,
  end: { status: 'failed' | 'cancelled'; code: string },
): Promise<void> {
  expect(await world.catalogue.operations.find(operationId)).toMatchObject({
    status: end.status,
    error: { code: end.code },
    residue: [],
  });
  expect(await world.catalogue.tenants.find(tenantId)).toMatchObject({ state: 'failed' });
  const steps = await stepsOf(world, operationId);
  expect(steps.filter((step) => step.status === 'running')).toEqual([]);
  await expectNothingLeft(world, tenantId);
}

/** Not even the ledger knows of it: as if it had never been asked for. */
export async function expectNeverWas(world: World, { tenantId, operationId }: Asked): Promise<void> {
  expect(await world.catalogue.operations.find(operationId)).toBeUndefined();
  expect(await world.catalogue.tenants.find(tenantId)).toBeUndefined();
  expect(await world.catalogue.tenants.allocations(tenantId)).toEqual([]);
  expect(await expectAgreement(world, tenantId)).toEqual([]);
}

/** The canary of the world's cell is whole. */
export async function expectCanary(world: World): Promise<void> {
  const id = canaryId(world.cell);
  const ledger = await world.catalogue.tenants.allocations(id);
  expect(new Set(ledger.map((allocation) => allocation.state))).toEqual(new Set(['created']));
  expect(await expectAgreement(world, id)).toHaveLength(ledger.length);
}

async function gatesOf(world: World, tenantId: TenantId): Promise<unknown[]> {
  const { postgres } = await world.dependencies.cells.get(world.cell);
  return (await postgres.control.query('SELECT mode FROM tenantry.gate WHERE tenant_id = $1', [tenantId]))
    .rows;
}
