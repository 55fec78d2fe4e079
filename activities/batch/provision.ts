/** A chunk of tenants in each store: what can be one statement over many tenants is one. */
import type { BatchActivities } from '../../domain/contracts.js';
import { TenantryError } from '../../domain/errors.js';
import { dropTenantDatabase, ensureTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { eraseRows, setGates } from '../../tenancy/postgres/gate.js';
import { dropNamespace, ensureNamespaces } from '../../tenancy/redis/namespace.js';
import type { ActivityDependencies } from '../dependencies.js';
import { type ChunkStep, chunkStep, eachTenant } from './chunk.js';

/** Tenants whose MongoDB commands are under way at once; the server's SCRAM of each user is most of their time. */
export const MONGO_AT_ONCE = 8;

export function batchProvisionActivities(
  deps: ActivityDependencies,
): Pick<BatchActivities, 'batchPostgres' | 'batchMongo' | 'batchRedis'> {
  const { manifest, layouts } = deps;
  const postgres: ChunkStep = {
    name: 'postgres',
    stores: ['postgres'],
    leaves: 'created',
    revert: (cell, tenant) => eraseRows(cell.postgres, manifest, tenant),
  };
  const mongo: ChunkStep = {
    name: 'mongo',
    stores: ['mongo'],
    leaves: 'created',
    revert: (cell, { tenantId }) => dropTenantDatabase(cell.mongo, { tenantId, layouts }),
  };
  const redis: ChunkStep = {
    name: 'redis',
    stores: ['redis'],
    leaves: 'created',
    revert: (cell, { tenantId }) => dropNamespace(cell.redis, tenantId),
  };
  return {
    batchPostgres: (fence) =>
      chunkStep(deps, fence, postgres, async (chunk) => {
        await setGates(chunk.connections.postgres.control, chunk.tenants, 'open');
        return { failed: [] };
      }),

    batchMongo: (fence) =>
      chunkStep(deps, fence, mongo, (chunk) =>
        eachTenant('mongo', chunk, MONGO_AT_ONCE, (tenant) =>
          ensureTenantDatabase(
            chunk.connections.mongo,
            { tenantId: tenant.tenantId, layouts },
            chunk.password(tenant, 'mongo'),
          ),
        ),
      ),

    batchRedis: (fence) =>
      chunkStep(deps, fence, redis, async (chunk) => {
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
