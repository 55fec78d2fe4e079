/** A tenant's Redis user: what it may do, as ACL rules. The keys of its own prefix, and nothing that looks around. */
import { createHash } from 'node:crypto';
import type { TenantId } from '../../domain/ids.js';
import { redisKeyPrefix } from '../../domain/names.js';

/**
 * Scripting stays off, and so does everything that lists keys, users or connections, or leads to another database, where
 * nobody looks for a tenant's keys.
 */
export const ACL_RULES =
  '+@read +@write +@connection +@transaction -@dangerous -@admin -@scripting -scan -keys -randomkey -select -move -copy -client -dbsize -wait'.split(
    ' ',
  );

/** Arguments of ACL SETUSER after the name. `reset` first: the result never depends on what was there. */
export function aclArguments(tenant: TenantId, password: string): string[] {
  const prefix = redisKeyPrefix(tenant);
  return ['reset', 'on', `#${passwordHash(password)}`, `~${prefix}*`, `&${prefix}*`, ...ACL_RULES];
}

export const passwordHash = (password: string): string => createHash('sha256').update(password).digest('hex');
