/** Passwords of tenants' users in the stores, opened from the catalogue and kept until they are heard to have changed. */
import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import { catalogueError } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { SecretBox } from '../../keys/sealed-secret.js';
import type { TenantCredential, TenantCredentials } from './cell-servers.js';
import type { Directory } from './directory.js';

export interface CredentialsOptions {
  /** The control database as the lookup role. */
  readonly pool: Pool;
  readonly secrets: SecretBox;
  readonly directory: Pick<Directory, 'onChange'>;
  /** A password is read again when it is older, whatever was heard. Milliseconds. */
  readonly maxAgeMs?: number;
  readonly max?: number;
}

type Store = 'mongo' | 'redis';

/**
 * An old password is no danger, since a store refuses it: its user asks again with `fresh`. So these may be older than
 * what the directory says of a tenant.
 */
export function createCredentials(options: CredentialsOptions): TenantCredentials {
  const { pool, secrets, directory, maxAgeMs = 300_000, max = 20_000 } = options;
  const kept = new LRUCache<string, TenantCredential>({ max, ttl: maxAgeMs, noDeleteOnStaleGet: true });
  const flights = new Map<string, Promise<TenantCredential>>();
  const keyOf = (id: TenantId, store: Store): string => `${id}/${store}`;
  directory.onChange((id) => {
    if (id === undefined) {
      kept.clear();
      flights.clear();
      return;
    }
    for (const store of ['mongo', 'redis'] as const) {
      kept.delete(keyOf(id, store));
      flights.delete(keyOf(id, store));
    }
  });

  const read = (tenantId: TenantId, store: Store): Promise<TenantCredential> => {
    const key = keyOf(tenantId, store);
    const flight = query(pool, secrets, tenantId, store)
      .then((read) => {
        // One that is still the same stays the same: what was derived of it stays good.
        const old = kept.peek(key, { allowStale: true });
        const credential = old?.version === read.version && old.password === read.password ? old : read;
        // Changed meanwhile, or overtaken by one that asked later: good for who waits for it, not to be kept.
        if (flights.get(key) === flight) kept.set(key, credential);
        return credential;
      })
      .finally(() => {
        if (flights.get(key) === flight) flights.delete(key);
      });
    flights.set(key, flight);
    return flight;
  };
  return {
    async get(tenantId, store, { fresh = false } = {}) {
      const key = keyOf(tenantId, store);
      // One that is under way may have been read before the rotation that made its asker doubt.
      if (fresh) return read(tenantId, store);
      return kept.get(key) ?? flights.get(key) ?? read(tenantId, store);
    },
  };
}

async function query(
  pool: Pool,
  secrets: SecretBox,
  tenantId: TenantId,
  store: Store,
): Promise<TenantCredential> {
  const { rows } = await pool
    .query<{ version: string; sealed: string }>({
      name: 'tenantry-credential',
      text: `SELECT version::text, encode(sealed, 'base64') AS sealed FROM credential WHERE tenant_id = $1 AND store = $2 ORDER BY credential.version DESC LIMIT 1`,
      values: [tenantId, store],
    })
    .catch((error: unknown) => {
      throw catalogueError(error);
    });
  const row = rows[0];
  // Withdrawn or purged since the tenant was looked up.
  if (row === undefined) throw new TenantryError('TENANT_NOT_FOUND');
  const version = Number(row.version);
  return {
    version,
    password: secrets.open(Buffer.from(row.sealed, 'base64'), { tenantId, store, version }),
  };
}
