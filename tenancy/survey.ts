/**
 * What exists of a tenant, asked of the stores themselves, in the ledger's terms; and how that compares with what the
 * ledger says.
 */
import type { TenantId } from '../domain/ids.js';
import {
  MONGO_ROLE,
  mongoDatabaseName,
  mongoUserName,
  redisMarkerKey,
  redisUserName,
} from '../domain/names.js';
import type { Allocation, StoreName } from '../domain/operation.js';
import type { CellConnections } from './cell-connections.js';
import { tenantAccess } from './mongo/tenant-database.js';
import { readGates } from './postgres/gate.js';
import { namespacePresent } from './redis/namespace.js';

export interface Finding {
  readonly store: StoreName;
  readonly kind: string;
  readonly name: string;
}

export async function surveyTenant(cell: CellConnections, tenantId: TenantId): Promise<Finding[]> {
  const database = mongoDatabaseName(tenantId);
  const [gates, collections, access, redis] = await Promise.all([
    readGates(cell.postgres.control, [tenantId]),
    cell.mongo.db(database).listCollections({}, { nameOnly: true }).toArray(),
    tenantAccess(cell.mongo, tenantId),
    namespacePresent(cell.redis, tenantId),
  ]);
  const findings: (Finding | false)[] = [
    gates.has(tenantId) && { store: 'postgres', kind: 'gate', name: tenantId },
    collections.length > 0 && { store: 'mongo', kind: 'database', name: database },
    ...collections.map(
      ({ name }): Finding => ({ store: 'mongo', kind: 'collection', name: `${database}.${name}` }),
    ),
    access.role && { store: 'mongo', kind: 'role', name: `${database}.${MONGO_ROLE}` },
    access.user && { store: 'mongo', kind: 'user', name: `${database}.${mongoUserName(tenantId)}` },
    redis.marker && { store: 'redis', kind: 'marker', name: redisMarkerKey(tenantId) },
    redis.user && { store: 'redis', kind: 'acl-user', name: redisUserName(tenantId) },
  ];
  return findings.filter((finding) => finding !== false);
}

/**
 * Every disagreement, in words; none when ledger and stores agree. `intended` says nothing about the store: it may
 * be there or not, for the ledger knows of it.
 */
export function disagreements(ledger: readonly Allocation[], found: readonly Finding[]): string[] {
  const key = ({ store, kind, name }: Finding): string => `${store} ${kind} ${name}`;
  const present = new Set(found.map(key));
  const known = new Map(ledger.map((allocation) => [key(allocation), allocation.state]));
  return [
    ...ledger
      .filter((a) => (a.state === 'created' || a.state === 'verified') && !present.has(key(a)))
      .map((a) => `the ledger says ${a.state}, the store has no ${key(a)}`),
    ...ledger
      .filter((a) => a.state === 'released' && present.has(key(a)))
      .map((a) => `the ledger says released, the store has ${key(a)}`),
    ...found.filter((f) => !known.has(key(f))).map((f) => `the ledger does not know ${key(f)}`),
  ];
}
