/**
 * The blueprint of a tenant: every resource that the manifest asks for in each store, with the hash of what it is
 * made from. Admission writes it into the ledger before anything is made.
 */
import { createHash } from 'node:crypto';
import type { Blueprint, PlannedAllocation } from '../catalogue/admission.js';
import { canonicalJson } from '../domain/canonical-json.js';
import type { TenantId } from '../domain/ids.js';
import type { Manifest } from '../domain/manifest.js';
import {
  MONGO_ROLE,
  mongoDatabaseName,
  mongoUserName,
  redisMarkerKey,
  redisUserName,
} from '../domain/names.js';
import { newPassword, type SecretBox } from '../keys/sealed-secret.js';
import { collectionLayouts, tenantPrivileges } from './mongo/layout.js';
import { ACL_RULES } from './redis/acl.js';

const FIRST_CREDENTIAL = 1;

export function createBlueprint(manifest: Manifest, secrets: SecretBox): Blueprint {
  const layouts = collectionLayouts(manifest);
  const collections = layouts.map((layout) => ({ name: layout.name, specHash: specHash(layout) }));
  const hashes = {
    gate: specHash('gate/1'),
    database: specHash(layouts),
    role: specHash(tenantPrivileges('', layouts)),
    user: specHash('user/1'),
    marker: specHash('marker/1'),
    aclUser: specHash(ACL_RULES),
  };
  return {
    allocations: (tenant: TenantId): PlannedAllocation[] => {
      const database = mongoDatabaseName(tenant);
      return [
        { store: 'postgres', kind: 'gate', name: tenant, specHash: hashes.gate },
        { store: 'mongo', kind: 'database', name: database, specHash: hashes.database },
        ...collections.map(({ name, specHash: hash }) => ({
          store: 'mongo' as const,
          kind: 'collection' as const,
          name: `${database}.${name}`,
          specHash: hash,
        })),
        { store: 'mongo', kind: 'role', name: `${database}.${MONGO_ROLE}`, specHash: hashes.role },
        { store: 'mongo', kind: 'user', name: `${database}.${mongoUserName(tenant)}`, specHash: hashes.user },
        { store: 'redis', kind: 'marker', name: redisMarkerKey(tenant), specHash: hashes.marker },
        { store: 'redis', kind: 'acl-user', name: redisUserName(tenant), specHash: hashes.aclUser },
      ];
    },
    credentials: (tenantId: TenantId) =>
      (['mongo', 'redis'] as const).map((store) => ({
        store,
        version: FIRST_CREDENTIAL,
        sealed: secrets.seal(newPassword(), { tenantId, store, version: FIRST_CREDENTIAL }),
      })),
  };
}

const specHash = (spec: unknown): string => createHash('sha256').update(canonicalJson(spec)).digest('hex');
