/**
 * Sessions of express-session in the current tenant's namespace: `tenancy()` goes before `session()`, and the same
 * session id in two tenants is two sessions.
 */
import type { EventEmitter } from 'node:events';
import { TenantryError } from '../../domain/errors.js';
import { currentTenant } from '../context/tenant-context.js';
import { refuseOtherThanPositive } from '../positive.js';
import type { RedisNamespace, ScopedRedis } from './scoped.js';

export interface SessionStoreOptions {
  /** Default: `session`. */
  readonly namespace?: string;
  /** How long one lives whose cookie says nothing; a day by default. The namespace's own TTL is the most. */
  readonly ttlSeconds?: number;
  /** Default: the current tenant's. */
  readonly redis?: () => ScopedRedis;
}

/** What is used of a session. */
export interface StoredSession {
  readonly cookie: { readonly expires?: Date | string | null | undefined };
}

type Done<T = void> = (error?: unknown, value?: T) => void;

const DAY = 86_400;

/**
 * @param Store `Store` of the product's own express-session; this package needs none
 * @returns the store to hand to `session({ store })`. Its errors are TenantryErrors: NO_TENANT_CONTEXT, TENANT_SUSPENDED,
 *   QUOTA_EXCEEDED, STORE_UNAVAILABLE
 * @throws RangeError of a `ttlSeconds` that is none: sessions would be removed when they are written
 */
export function createSessionStore<S extends abstract new () => EventEmitter>(
  Store: S,
  options: SessionStoreOptions = {},
): InstanceType<S> {
  const {
    namespace = 'session',
    ttlSeconds = DAY,
    redis = (): ScopedRedis => currentTenant().redis,
  } = options;
  refuseOtherThanPositive('ttlSeconds', ttlSeconds);
  const sessions = (): RedisNamespace => redis().namespace(namespace);
  const livesMs = ({ cookie: { expires } }: StoredSession): number =>
    expires === undefined || expires === null
      ? ttlSeconds * 1_000
      : Math.ceil(new Date(expires).getTime() - Date.now());

  class TenantSessionStore extends (Store as abstract new () => EventEmitter) {
    get(id: string, done: Done<unknown>): void {
      answer(async () => {
        const text = await sessions().get(id);
        return text === null ? null : (JSON.parse(text) as unknown);
      }, done);
    }

    set(id: string, session: StoredSession, done?: Done): void {
      answer(async () => {
        const px = livesMs(session);
        if (px > 0) await sessions().set(id, JSON.stringify(session), { px });
        else await sessions().del(id);
      }, done);
    }

    /** It has been used: its end is put off. */
    touch(id: string, session: StoredSession, done?: Done): void {
      answer(async () => {
        await sessions()
          .pexpire(id, Math.max(0, livesMs(session)))
          .catch(ignoreReadOnly);
      }, done);
    }

    destroy(id: string, done?: Done): void {
      answer(async () => {
        await sessions().del(id);
      }, done);
    }
  }
  // Given a Store it is one: the methods that express-session leaves to its stores are the ones above.
  return new TenantSessionStore() as InstanceType<S>;
}

/** A suspended tenant reads on, and each of its requests touches its session: that one is not kept longer is no failure. */
function ignoreReadOnly(error: unknown): void {
  if (!(error instanceof TenantryError) || error.code !== 'TENANT_SUSPENDED') throw error;
}

/** Not within the promise's own turn: what a callback throws is the caller's, and no rejection that nobody handles. */
function answer<T>(work: () => Promise<T>, done: Done<T> = () => undefined): void {
  work().then(
    (value) => process.nextTick(done, null, value),
    (error: unknown) => process.nextTick(done, error),
  );
}
