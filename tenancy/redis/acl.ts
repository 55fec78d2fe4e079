/** A tenant's Redis user: what it may do, as ACL rules. The keys of its own prefix, and nothing that looks around. */
import { createHash } from 'node:crypto';
import type { TenantId } from '../../domain/ids.js';
import { redisKeyPrefix } from '../../domain/names.js';

/**
 * Scripting stays off, and so does everything that lists keys, users or connections, or leads to another database, where
 * nobody looks for a tenant's keys. So does what holds up a connection, or changes it for whoever has it next: those that
 * wait, WATCH, SELECT, CLIENT. XREAD is one that may wait; without BLOCK it does not. AUTH, HELLO, RESET and QUIT no ACL
 * can take away: the data plane does not send the last two.
 */
export const ACL_RULES =
  '+@read +@write +multi +exec -@blocking -@dangerous -@admin -@scripting -scan -keys -randomkey -move -copy -dbsize +xread'.split(
    ' ',
  );

/** Arguments of ACL SETUSER after the name. `reset` first: the result never depends on what was there. */
export function aclArguments(tenant: TenantId, password: string): string[] {
  const prefix = redisKeyPrefix(tenant);
  return ['reset', 'on', `#${passwordHash(password)}`, `~${prefix}*`, `&${prefix}*`, ...ACL_RULES];
}

export const passwordHash = (password: string): string => createHash('sha256').update(password).digest('hex');
