/**
 * The probe of a tenant in Redis, in one pipeline on a connection that changes its user. As the tenant it writes a key and
 * reads it back. NOPERM has to answer another tenant who reads or writes that key or publishes to its channels, the tenant
 * who does so with the other's, and whoever lists keys. If an AUTH fails, the user before it stays, whose ACL refuses the
 * rest.
 */
import type { Redis } from 'ioredis';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisKey, redisUserName } from '../../domain/names.js';
import type { Namespace } from './namespace.js';

export interface RedisEvidence {
  readonly wroteAndRead: boolean;
  readonly refused: Readonly<Record<string, string>> | undefined;
}

const key = (tenantId: TenantId): string => redisKey(tenantId, 'tenantry', 'probe');

/** @param redis a connection that nobody else uses as a certain user between two commands */
export async function probeRedis(
  redis: Redis,
  tenant: Namespace,
  other: Namespace | undefined,
): Promise<RedisEvidence> {
  const own = key(tenant.tenantId);
  const pipeline = redis
    .pipeline()
    .auth(redisUserName(tenant.tenantId), tenant.password)
    // The key vanishes by itself if the process dies in the middle.
    .set(own, 'probe', 'EX', 60)
    .get(own);
  const { asTenant, asOther } =
    other === undefined ? { asTenant: [], asOther: [] } : crossings(tenant.tenantId, other.tenantId);
  if (other !== undefined) {
    for (const [, command] of asTenant) pipeline.call(...command);
    pipeline.auth(redisUserName(other.tenantId), other.password);
    for (const [, command] of asOther) pipeline.call(...command);
    pipeline.auth(redisUserName(tenant.tenantId), tenant.password);
  }
  pipeline.del(own);
  const answers = await pipeline.exec();
  if (answers === null) throw new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' });

  const [login, write, read, ...rest] = answers;
  succeeded(login, 'log in');
  succeeded(write, 'write');
  if (succeeded(read, 'read') !== 'probe')
    throw new TenantryError('VERIFICATION_FAILED', {
      store: 'Redis',
      detail: 'the key read is not the key written',
    });
  if (other === undefined) return { wroteAndRead: true, refused: undefined };
  const [loginAsOther] = rest.splice(asTenant.length, 1);
  succeeded(loginAsOther, 'log in as the other');
  const tried = [...asTenant, ...asOther].map(([name], i) => [name, refused(rest[i], name)]);
  return { wroteAndRead: true, refused: Object.fromEntries(tried) as Record<string, string> };
}

type Attempt = [name: string, command: readonly [string, ...string[]]];

/** None of them changes anything that is anybody's, were it let through. */
function crossings(tenant: TenantId, other: TenantId): { asTenant: Attempt[]; asOther: Attempt[] } {
  const [own, theirs] = [key(tenant), key(other)];
  return {
    asTenant: [
      ["tenant reads the other's key", ['GET', theirs]],
      ["tenant removes the other's key", ['UNLINK', theirs]],
      ["tenant publishes to the other's channel", ['PUBLISH', theirs, 'stolen']],
      ['tenant lists keys', ['SCAN', '0', 'COUNT', '1']],
      ['tenant runs scripts', ['EVAL', 'return 1', '0']],
    ],
    asOther: [
      ['other reads', ['GET', own]],
      ['other writes', ['SET', own, 'stolen']],
      ['other publishes', ['PUBLISH', own, 'stolen']],
    ],
  };
}

type Answer = [error: Error | null, result: unknown] | undefined;

function succeeded(answer: Answer, what: string): unknown {
  const error = answer?.[0];
  if (answer !== undefined && error === null) return answer[1];
  // Redis forgets its ACL users when it restarts; the reconciler makes them again, so another try is worth it.
  if (error instanceof Error && /^(WRONGPASS|NOPERM|NOAUTH)/.test(error.message))
    throw new TenantryError(
      'VERIFICATION_FAILED',
      { store: 'Redis', detail: `cannot ${what}` },
      { cause: error },
    );
  throw error ?? new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' });
}

function refused(answer: Answer, probe: string): string {
  const error = answer?.[0];
  if (error instanceof Error && error.message.startsWith('NOPERM')) return 'NOPERM';
  if (error instanceof Error) throw error;
  throw new TenantryError('ISOLATION_BREACH', { store: 'Redis', probe });
}
