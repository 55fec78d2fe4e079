/**
 * The canary of a cell: a tenant of Tenantry's own, as which probes try to reach other tenants. It has no customer's data,
 * and a probe that runs as the canary never uses a customer's rights.
 */
import { createHash } from 'node:crypto';
import type { MongoClient } from 'mongodb';
import type { Blueprint } from '../catalogue/admission.js';
import type { Catalogue } from '../catalogue/index.js';
import { TenantryError } from '../domain/errors.js';
import { type CellName, tenantId, type TenantId } from '../domain/ids.js';
import { settled } from '../domain/settled.js';
import type { SecretBox } from '../keys/sealed-secret.js';
import type { CellConnections } from './cell-connections.js';
import { openCredential } from './credential.js';
import type { CollectionLayout } from './mongo/layout.js';
import { openTenantClient } from './mongo/tenant-client.js';
import { ensureTenantDatabase } from './mongo/tenant-database.js';
import { setGates } from './postgres/gate.js';
import { ensureNamespaces, type Namespace } from './redis/namespace.js';
import { inStore } from './store-error.js';

export interface Canary {
  readonly tenantId: TenantId;
  /** Logged in as the canary; stays connected for as long as the worker runs. */
  readonly mongo: MongoClient;
  readonly redis: Namespace;
}

interface CanaryOptions {
  readonly catalogue: Catalogue;
  readonly blueprint: Blueprint;
  readonly secrets: SecretBox;
  readonly layouts: readonly CollectionLayout[];
}

/** Makes the canary like any tenant, ledger first. Safe to repeat, and from several workers at once. */
export async function ensureCanary(options: CanaryOptions, connections: CellConnections): Promise<Canary> {
  const { catalogue, blueprint, secrets, layouts } = options;
  const { cell, mongo, mongoUrl, postgres, redis } = connections;
  const id = canaryId(cell.name);
  const credentials = await catalogue.canaries.intend(cell.name, id, blueprint);
  const password = (store: 'mongo' | 'redis'): string => openCredential(secrets, id, store, credentials);
  const namespace = { tenantId: id, password: password('redis') };
  const [foreign] = await settled([
    inStore('redis', ensureNamespaces(redis, [namespace])),
    inStore('postgres', setGates(postgres.control, [{ tenantId: id, generation: 1 }], 'open')),
    inStore('mongo', ensureTenantDatabase(mongo, { tenantId: id, layouts }, password('mongo'))),
  ]);
  if (foreign.length > 0) throw new TenantryError('NAME_TAKEN', { kind: 'namespace', store: 'Redis' });
  await catalogue.canaries.made(id, blueprint);
  return { tenantId: id, mongo: openTenantClient(mongoUrl, id, password('mongo')), redis: namespace };
}

/** The canary's id, in the form of a UUIDv8. It is the same in every worker: two that prepare a cell at once make one canary. */
export function canaryId(cell: CellName): TenantId {
  const hex = createHash('sha256').update(`tenantry/canary/${cell}`).digest('hex');
  return tenantId(
    `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`,
  );
}
