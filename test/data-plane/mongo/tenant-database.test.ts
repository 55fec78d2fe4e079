/** A tenant's database as it is made: by the server's own catalogue nobody may do more in it than is declared. */
import type { TenantId } from '../../../domain/ids.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName } from '../../../domain/names.js';
import supportDesk from '../../../manifest/support-desk.js';
import { collectionLayouts } from '../../../tenancy/mongo/layout.js';
import { inspectTenantDatabase } from '../../../tenancy/mongo/tenant-database.js';
import { createTenants, type Tenants } from './support/tenants.js';

const layouts = collectionLayouts(supportDesk);

let tenants: Tenants;
beforeAll(() => {
  tenants = createTenants();
});
afterAll(() => tenants.close());

it('has one user with one role, and nothing is wrong with either', async () => {
  const [tenantId] = (await tenants.make(1)) as [TenantId];
  expect(await inspectTenantDatabase(tenants.admin, { tenantId, layouts })).toBeUndefined();
  const db = tenants.admin.db(mongoDatabaseName(tenantId));
  const { users } = await db.command({ usersInfo: 1 });
  expect(users).toMatchObject([
    { user: mongoUserName(tenantId), roles: [{ role: MONGO_ROLE, db: mongoDatabaseName(tenantId) }] },
  ]);
});
