/** The probes of one tenant in the three stores, side by side: as the tenant, and as the cell's canary. */
import { TenantryError } from '../domain/errors.js';
import type { TenantId } from '../domain/ids.js';
import { settled } from '../domain/settled.js';
import type { Canary } from '../tenancy/canary.js';
import type { PreparedCell } from '../tenancy/cell-registry.js';
import { breachFirst } from '../tenancy/flaw.js';
import { canMongoBeProbedAcross } from '../tenancy/mongo/enforcement.js';
import { type Crossing, probeMongo } from '../tenancy/mongo/probe.js';
import { probePostgres } from '../tenancy/postgres/probe.js';
import { probeRedis } from '../tenancy/redis/probe.js';
import { inStore } from '../tenancy/store-error.js';
import type { ActivityDependencies } from './dependencies.js';

export interface Probed {
  readonly tenantId: TenantId;
  readonly connections: PreparedCell;
  readonly passwords: { readonly mongo: string; readonly redis: string };
}

/**
 * @returns what was seen, as evidence
 * @throws TenantryError ISOLATION_BREACH when another tenant got through, VERIFICATION_FAILED when the tenant itself did not
 */
export async function probeTenant(deps: ActivityDependencies, probed: Probed) {
  const canary = canaryOf(probed.connections);
  // All three are awaited: a probe that went on alone could run into the undo of its own tenant.
  const [postgres, mongo, redis] = await settled(
    [
      inStore(
        'postgres',
        probePostgres(
          probed.connections.postgres.runtime,
          deps.manifest,
          probed.tenantId,
          canary.tenantId,
          probed.connections.switchTo,
        ),
      ),
      inStore('mongo', probeInMongo(deps, probed, canary)),
      inStore('redis', probeInRedis(probed, canary)),
    ],
    breachFirst,
  );
  return { by: 'probe', postgres, mongo, redis };
}

/** @throws TenantryError ISOLATION_NOT_ENFORCED when the cell has no canary, because its MongoDB did not pass the trial */
export function canaryOf({ cell, canary }: PreparedCell): Canary {
  if (canary !== undefined) return canary;
  const notRefused = cell.trial?.notRefused.join(', ') ?? 'anything';
  throw new TenantryError('ISOLATION_NOT_ENFORCED', { cell: cell.name, notRefused });
}

async function probeInMongo(
  deps: ActivityDependencies,
  { tenantId, connections, passwords }: Probed,
  canary: Canary,
) {
  const { trial, mongoEnforcement } = connections.cell;
  const warm = deps.warmClients.take(connections.mongoUrl, tenantId, passwords.mongo);
  const { client } = warm;
  try {
    const across = canMongoBeProbedAcross(trial);
    const canBeRefused = (crossing: Crossing): boolean => trial?.refused.includes(crossing) === true;
    const other = across ? { tenantId: canary.tenantId, client: canary.mongo, canBeRefused } : undefined;
    const seen = await probeMongo(deps.manifest, { tenantId, client }, other);
    // Not awaited, here and below: how the connection ends is no part of the evidence.
    void warm.giveBack();
    return { enforcement: mongoEnforcement, notRefused: trial?.notRefused ?? [], ...seen };
  } catch (error) {
    void warm.close();
    throw error;
  }
}

const probeInRedis = ({ tenantId, connections, passwords }: Probed, canary: Canary) =>
  probeRedis(connections.redisAsTenant, { tenantId, password: passwords.redis }, canary.redis);
