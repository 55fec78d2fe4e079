/**
 * Hardened mode: the token that says for which tenant a statement runs, signed here and verified by the cell's policies
 * (`tenantry.verified_tenant`), so that no SQL, injected or stacked, can choose another tenant.
 */
import { createHmac } from 'node:crypto';
import type { ClientBase, Pool } from 'pg';
import { transaction } from '../../catalogue/pool.js';
import type { TenantId } from '../../domain/ids.js';
import type { ContextKey } from '../../keys/context-key.js';

export type { ContextKey } from '../../keys/context-key.js';

export interface TokenSourceOptions {
  /** Asked at each signing, so that a rotated key is felt without a restart. */
  readonly key: () => ContextKey;
  /** A token is handed out for at least half of it. Default 5 minutes. */
  readonly lifetimeMs?: number | undefined;
}

const BLOCK = 64;
const CACHED = 20_000;

/** Tokens by tenant, each signed once in a while. */
export function createTokenSource({
  key,
  lifetimeMs = 300_000,
}: TokenSourceOptions): (tenant: TenantId) => string {
  const cached = new Map<
    TenantId,
    { readonly token: string; readonly keyId: number; readonly until: number }
  >();
  return (tenant) => {
    const now = Date.now();
    const signing = key();
    const known = cached.get(tenant);
    if (known !== undefined && known.until > now && known.keyId === signing.id) return known.token;
    const token = signToken(tenant, signing, new Date(now + lifetimeMs));
    // The oldest first: a Map keeps the order of insertion.
    cached.delete(tenant);
    for (const oldest of cached.keys()) {
      if (cached.size < CACHED) break;
      cached.delete(oldest);
    }
    cached.set(tenant, { token, keyId: signing.id, until: now + lifetimeMs / 2 });
    return token;
  };
}

/** `tenant . expiry in seconds . key id . HMAC-SHA-256 in hex`. */
export function signToken(tenant: TenantId, { id, secret }: ContextKey, expires: Date): string {
  const signed = `${tenant}.${Math.ceil(expires.getTime() / 1000)}.${id}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('hex')}`;
}

/**
 * Makes these keys the valid ones of a cell; safe to repeat. A key that is older than those in the cell is not put
 * back, so that a process with yesterday's ids does no harm, and those older than all of these are removed: nothing that
 * they have signed is taken from then on. As parameters, never in the text of a statement, which others see.
 * @param owner as the schema owner, after `ensureProductSchema`
 * @param keys oldest first
 */
export async function installContextKeys(owner: Pool, keys: readonly ContextKey[]): Promise<void> {
  await transaction(owner, async (client) => {
    // Only one at a time; the product reads on.
    await client.query('LOCK TABLE tenantry.context_key IN SHARE ROW EXCLUSIVE MODE');
    for (const key of keys) await installContextKey(client, key);
    await client.query('DELETE FROM tenantry.context_key WHERE id < ALL ($1::int[])', [
      keys.map(({ id }) => id),
    ]);
  });
}

/** One more that is valid. */
export async function installContextKey(owner: ClientBase | Pool, { id, secret }: ContextKey): Promise<void> {
  if (secret.length < 32 || secret.length > BLOCK) throw new RangeError('a context key has 32 to 64 bytes');
  await owner.query(
    `INSERT INTO tenantry.context_key (id, inner_pad, outer_pad)
     SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM tenantry.context_key WHERE id > $1)
         OR EXISTS (SELECT FROM tenantry.context_key WHERE id = $1)
     ON CONFLICT (id) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad`,
    [id, padded(secret, 0x36), padded(secret, 0x5c)],
  );
}

/** The key as HMAC puts it before a hash (RFC 2104). */
function padded(secret: Buffer, pad: number): Buffer {
  const block = Buffer.alloc(BLOCK, pad);
  for (const [index, byte] of secret.entries()) block[index] = byte ^ pad;
  return block;
}
