/** A chunk of tenants in each store: what can be one statement over many tenants is one. */
import type { BatchActivities } from '../../domain/contracts.js';
import { TenantryError } from '../../domain/errors.js';
import type { StoreName } from '../../domain/operation.js';
import { ensureTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { setGates } from '../../tenancy/postgres/gate.js';
import { ensureNamespaces } from '../../tenancy/redis/namespace.js';
import type { ActivityDependencies } from '../dependencies.js';
import { removal } from '../removal.js';
import { type ChunkStep, chunkStep, eachTenant } from './chunk.js';

/** Tenants whose MongoDB commands are under way at once; the server's SCRAM of each user is most of their time. */
export const MONGO_AT_ONCE = 8;

export function batchProvisionActivities(
  deps: ActivityDependencies,
): Pick<BatchActivities, 'batchPostgres' | 'batchMongo' | 'batchRedis'> {
  const removed = removal(deps);
  const made = (store: StoreName): ChunkStep => ({
    name: store,
    stores: [store],
    leaves: 'created',
    revert: removed[store],
  });
  return {
    batchPostgres: (fence) =>
      chunkStep(deps, fence, made('postgres'), async (chunk) => {
        await setGates(chunk.connections.postgres.control, chunk.tenants, 'open');
        return { failed: [] };
      }),

    batchMongo: (fence) =>
      chunkStep(deps, fence, made('mongo'), (chunk) =>
        eachTenant('mongo', chunk, MONGO_AT_ONCE, (tenant) =>
          ensureTenantDatabase(
            chunk.connections.mongo,
            { tenantId: tenant.tenantId, layouts: deps.layouts },
            chunk.password(tenant, 'mongo'),
          ),
        ),
      ),

    batchRedis: (fence) =>
      chunkStep(deps, fence, made('redis'), async (chunk) => {
        const foreign = await ensureNamespaces(
          chunk.connections.redis,
          chunk.tenants.map((tenant) => ({
            tenantId: tenant.tenantId,
            password: chunk.password(tenant, 'redis'),
          })),
        );
        const error = new TenantryError('NAME_TAKEN', { kind: 'namespace', store: 'Redis' });
        return { failed: foreign.map((tenantId) => ({ tenantId, error })) };
      }),
  };
}
