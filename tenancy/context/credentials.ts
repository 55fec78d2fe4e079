/** A cache of the passwords of tenants' users in the stores, which are read from the catalogue and opened here. */
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
  /** How old a password may be before it is read again, in milliseconds. Default: five minutes. */
  readonly maxAgeMs?: number;
  /** How many passwords are kept. Default: 20,000. */
  readonly max?: number;
}

type Store = 'mongo' | 'redis';

/**
 * Passwords are kept until a change of their tenant is heard of, and at most for `maxAgeMs`. That is longer than the directory
 * keeps a tenant. An old password does no harm, because the store refuses it, and then it is asked for again with `fresh`.
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
        // An unchanged credential stays the same object, so that what was derived from it can still be used.
        const old = kept.peek(key, { allowStale: true });
        const credential = old?.version === read.version && old.password === read.password ? old : read;
        // If the tenant has changed meanwhile, or a later read has begun, this one is returned to its callers but not kept.
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
      // Not a read that is under way: it may be from before the rotation for which the caller's password was refused.
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
      text: `SELECT version::text, encode(sealed, 'base64') AS sealed FROM credential
              WHERE tenant_id = $1 AND store = $2 ORDER BY credential.version DESC LIMIT 1`,
      values: [tenantId, store],
    })
    .catch((error: unknown) => {
      throw catalogueError(error);
    });
  const row = rows[0];
  // The tenant was withdrawn or purged since it was looked up.
  if (row === undefined) throw new TenantryError('TENANT_NOT_FOUND');
  const version = Number(row.version);
  return {
    version,
    password: secrets.open(Buffer.from(row.sealed, 'base64'), { tenantId, store, version }),
  };
}
