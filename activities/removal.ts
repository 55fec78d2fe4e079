/** What is removed of a tenant in each store, whether an undo asks for it or a step takes its own effect back. */
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

/** Each may be run again. What is foreign in a store stays there and is none of ours. */
export const removal = ({ manifest, layouts }: ActivityDependencies) => ({
  postgres: ({ postgres }: PreparedCell, tenant: RemovedTenant) => eraseRows(postgres, manifest, tenant),
  mongo: ({ mongo }: PreparedCell, { tenantId }: RemovedTenant) =>
    dropTenantDatabase(mongo, { tenantId, layouts }),
  redis: ({ redis }: PreparedCell, { tenantId }: RemovedTenant) => dropNamespace(redis, tenantId),
});
