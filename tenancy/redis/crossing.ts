/** From one tenant at work to another's keys: reading must be answered with NOPERM. Nothing is written. */
import type { Redis } from 'ioredis';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisKey, redisUserName } from '../../domain/names.js';
import type { Namespace } from './namespace.js';

/**
 * @param redis a connection that nobody else uses as a certain user between two commands
 * @throws TenantryError ISOLATION_BREACH when the read went through
 */
export async function crossRedis(redis: Redis, as: Namespace, target: TenantId): Promise<void> {
  const answers = await redis
    .pipeline()
    .auth(redisUserName(as.tenantId), as.password)
    .get(redisKey(as.tenantId, 'tenantry', 'probe'))
    .get(redisKey(target, 'tenantry', 'probe'))
    .exec();
  const [login, own, theirs] = answers ?? [];
  if (login === undefined || own === undefined || theirs === undefined)
    throw new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' });
  // A user that cannot log in or is refused everywhere would prove nothing; after a restart it is made again soon.
  const failure = login[0] ?? own[0];
  if (failure !== null && /^(WRONGPASS|NOPERM|NOAUTH)/.test(failure.message))
    throw new TenantryError(
      'VERIFICATION_FAILED',
      { store: 'Redis', detail: 'a tenant cannot reach its own keys' },
      { cause: failure },
    );
  if (failure !== null) throw failure;
  if (theirs[0] === null)
    throw new TenantryError('ISOLATION_BREACH', { store: 'Redis', probe: 'read a key' });
  if (!theirs[0].message.startsWith('NOPERM')) throw theirs[0];
}
