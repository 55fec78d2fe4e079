/**
 * Verification of a chunk: each tenant by what the stores' own catalogues say, and a random sample of them by probes
 * as the tenant too. The evidence says which were which.
 */
import { randomInt } from 'node:crypto';
import type { ChunkTenant } from '../../catalogue/batches.js';
import type { BatchActivities } from '../../domain/contracts.js';
import type { TenantId } from '../../domain/ids.js';
import type { StoreName } from '../../domain/operation.js';
import { settled } from '../../domain/settled.js';
import { breachFirst, type Flaw, flawError } from '../../tenancy/flaw.js';
import { inspectTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { readGates } from '../../tenancy/postgres/gate.js';
import { inspectRowSecurity } from '../../tenancy/postgres/row-security.js';
import { inspectNamespaces } from '../../tenancy/redis/namespace.js';
import { inStore } from '../../tenancy/store-error.js';
import type { ActivityDependencies } from '../dependencies.js';
import { eachLimited } from '../each-limited.js';
import { canaryOf, probeTenant } from '../probe.js';
import { type CellChunk, type ChunkOutcome, chunkStep, eachTenant } from './chunk.js';
import { MONGO_AT_ONCE } from './provision.js';

/** Each probe logs in as a new MongoDB user, which is processor time on both sides. */
const PROBES_AT_ONCE = 4;

export function batchVerifyActivities(deps: ActivityDependencies): Pick<BatchActivities, 'batchVerify'> {
  const stores = ['postgres', 'mongo', 'redis'] as const;
  return {
    batchVerify: ({ sample, ...fence }) =>
      chunkStep(deps, fence, { name: 'verify', stores, leaves: 'verified' }, async (chunk) => {
        const [postgres, redis, mongo] = await settled(
          [inspectPostgres(deps, chunk), inspectRedis(chunk), inspectMongo(deps, chunk)],
          breachFirst,
        );
        const failed = [...postgres.failed, ...redis.failed, ...mongo.failed];
        const sound = chunk.tenants.filter((t) => !failed.some((failure) => failure.tenantId === t.tenantId));
        const probedToo = await probeSample(deps, chunk, randomSample(sound, sample));
        return { failed, evidence: { by: 'catalogue', tenants: chunk.tenants.length, probedToo } };
      }),
  };
}

/** What one tenant lacks is its own; a way to others condemns the cell, not one tenant: the whole chunk stops. */
function outcomeOf(store: StoreName, flaws: ReadonlyMap<TenantId, Flaw>): ChunkOutcome {
  for (const flaw of flaws.values()) if (flaw.breach) throw flawError(store, flaw);
  return { failed: [...flaws].map(([tenantId, flaw]) => ({ tenantId, error: flawError(store, flaw) })) };
}

async function inspectPostgres(
  { manifest }: ActivityDependencies,
  { connections: { postgres }, tenants }: CellChunk,
): Promise<ChunkOutcome> {
  const ids = tenants.map((tenant) => tenant.tenantId);
  const [gates, flaw] = await inStore(
    'postgres',
    settled([readGates(postgres.control, ids), inspectRowSecurity(postgres.runtime, manifest)]),
  );
  if (flaw !== undefined) throw flawError('postgres', flaw);
  const closed = { detail: 'the gate is not open', breach: false };
  return outcomeOf(
    'postgres',
    new Map(ids.filter((id) => gates.get(id) !== 'open').map((id) => [id, closed])),
  );
}

async function inspectRedis({ connections, tenants, password }: CellChunk): Promise<ChunkOutcome> {
  const namespaces = tenants.map((t) => ({ tenantId: t.tenantId, password: password(t, 'redis') }));
  const flaws = await inStore(
    'redis',
    inspectNamespaces(connections.redis, namespaces, canaryOf(connections).tenantId),
  );
  const [failure] = outcomeOf('redis', flaws).failed;
  // Redis forgets its users when it restarts and is told them again: worth another attempt, not a failed tenant.
  if (failure !== undefined) throw failure.error;
  return { failed: [] };
}

async function inspectMongo({ layouts }: ActivityDependencies, chunk: CellChunk): Promise<ChunkOutcome> {
  const flaws = new Map<TenantId, Flaw>();
  const { failed } = await eachTenant('mongo', chunk, MONGO_AT_ONCE, async ({ tenantId }) => {
    const flaw = await inspectTenantDatabase(chunk.connections.mongo, { tenantId, layouts });
    if (flaw !== undefined) flaws.set(tenantId, flaw);
  });
  return { failed: [...failed, ...outcomeOf('mongo', flaws).failed] };
}

/** @throws as `probeTenant`: a probe that failed stops the whole chunk */
async function probeSample(
  deps: ActivityDependencies,
  chunk: CellChunk,
  sample: readonly ChunkTenant[],
): Promise<unknown[]> {
  const results = await eachLimited(sample, PROBES_AT_ONCE, async (tenant) => {
    chunk.heartbeat();
    const passwords = { mongo: chunk.password(tenant, 'mongo'), redis: chunk.password(tenant, 'redis') };
    const evidence = await probeTenant(deps, {
      tenantId: tenant.tenantId,
      connections: chunk.connections,
      passwords,
    });
    return { tenantId: tenant.tenantId, evidence };
  });
  const failures = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  if (failures.length > 0) throw breachFirst(failures);
  return results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
}

function randomSample<T>(items: readonly T[], count: number): T[] {
  const pool = [...items];
  const sample: T[] = [];
  while (sample.length < count && pool.length > 0) sample.push(...pool.splice(randomInt(pool.length), 1));
  return sample;
}
