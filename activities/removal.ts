/** Removes what a tenant has in each store, for an undo and for a step that takes its own effect back. */
import type { TenantId } from '../domain/ids.js';
import type { PreparedCell } from '../tenancy/cell-registry.js';
import { dropTenantDatabase } from '../tenancy/mongo/tenant-database.js';
import { eraseRows } from '../tenancy/postgres/gate.js';
import { dropNamespace } from '../tenancy/redis/namespace.js';
import type { ActivityDependencies } from './dependencies.js';

interface RemovedTenant {
  readonly tenantId: TenantId;
  readonly generation: number;
}

/** Each may be run again. What is not ours in a store is left there. */
export const removal = ({ manifest, layouts }: ActivityDependencies) => ({
  postgres: ({ postgres }: PreparedCell, tenant: RemovedTenant) => eraseRows(postgres, manifest, tenant),
  mongo: ({ mongo }: PreparedCell, { tenantId }: RemovedTenant) =>
    dropTenantDatabase(mongo, { tenantId, layouts }),
  redis: ({ redis }: PreparedCell, { tenantId }: RemovedTenant) => dropNamespace(redis, tenantId),
});
