/**
 * A cache in the current tenant's namespace. A missing value is loaded once: the callers of one process share one load, and a
 * lock in the tenant's own namespace makes other processes wait for it.
 *
 * - If the loader fails, those who wait for that load get its error. The failure is not kept.
 * - The lock is a lease. When its holder dies, or takes longer than `lockMs`, somebody else loads, in the same process too.
 * - A value that is deleted while it is being loaded is not kept. The deletion removes the lock too, and a loader whose lock is
 *   gone keeps nothing. Without scripts the lock is checked one round trip before the value is written, no closer.
 * - If the cache cannot be read or written, the loader is called each time: that costs speed, not answers.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { TenantryError } from '../../domain/errors.js';
import { currentTenant } from '../context/tenant-context.js';
import { refuseOtherThanPositive } from '../positive.js';
import { refuseOtherThanText } from './keys.js';
import { type RedisNamespace, type ScopedRedis, wireKeyIn } from './scoped.js';

export interface CacheOptions {
  /** Default: `cache`. */
  readonly namespace?: string;
  /** How long a value lives. Default: the TTL that the manifest gives the namespace, or five minutes. */
  readonly ttlSeconds?: number;
  /**
   * How long other callers wait for a load, in milliseconds, before they load themselves. Choose it longer than the loader takes.
   * Default: 10,000.
   */
  readonly lockMs?: number;
  /** Values whose JSON is larger are returned but not kept. Default: 1 MiB. */
  readonly maxBytes?: number;
  /** How many loads may run at once in this process, of all tenants. Default: 1,000. */
  readonly maxLoads?: number;
  /** Default: the current tenant's. */
  readonly redis?: () => ScopedRedis;
}

export interface Cache {
  /**
   * The value of `key`. If there is none, calls `load` and keeps its result as JSON: each caller gets a copy, and `undefined`
   * is not kept. The first caller's `load` runs, in that caller's context, for all that ask meanwhile. So everything that the
   * result depends on, such as the principal, belongs into the key.
   * @throws what `load` throws; TenantryError CLIENTS_EXHAUSTED past `maxLoads`, NO_TENANT_CONTEXT
   */
  getOrSet<T>(key: string, load: () => T | Promise<T>, options?: { ttlSeconds?: number }): Promise<T>;
  /** The value that is kept; undefined if there is none. */
  get(key: string): Promise<unknown>;
  set(key: string, value: unknown, options?: { ttlSeconds?: number }): Promise<void>;
  /** Deletes the value. A value that is being loaded just now is not kept either. */
  delete(key: string): Promise<void>;
}

const FIVE_MINUTES = 300;

/** Says that a loader has taken so long that others no longer wait for it. */
const OVERDUE = Symbol('overdue');

interface Load {
  /** JSON. */
  readonly text: Promise<string | undefined>;
  readonly overdue: Promise<typeof OVERDUE>;
}

export function createCache(options: CacheOptions = {}): Cache {
  const {
    namespace = 'cache',
    lockMs = 10_000,
    maxBytes = 2 ** 20,
    maxLoads = 1_000,
    redis = (): ScopedRedis => currentTenant().redis,
  } = options;
  for (const [name, given] of Object.entries({ lockMs, maxBytes, maxLoads, ttlSeconds: options.ttlSeconds }))
    if (given !== undefined) refuseOtherThanPositive(name, given);
  /** By the key on the wire, which includes the tenant. */
  const loads = new Map<string, Load>();
  let running = 0;

  // Shared by all tenants, hence frozen.
  return Object.freeze<Cache>({
    async getOrSet<T>(key: string, load: () => T | Promise<T>, own: { ttlSeconds?: number } = {}) {
      const parsed = (text: string | undefined): T =>
        (text === undefined ? undefined : JSON.parse(text)) as T;
      for (;;) {
        const { cached, name } = place(key);
        if (!loads.has(name)) {
          const found = await cached.get(valueOf(key)).catch(nothing);
          if (found !== null) return parsed(found);
        }
        // Another caller may have begun to load meanwhile.
        const loading = loads.get(name);
        if (loading === undefined)
          return parsed(await begin(name, cached, key, async () => json(await load()), endOf(cached, own)));
        const text = await Promise.race([loading.text, loading.overdue]);
        if (text !== OVERDUE) return parsed(text);
      }
    },
    async get(key) {
      const text = await place(key).cached.get(valueOf(key));
      return text === null ? undefined : (JSON.parse(text) as unknown);
    },
    async set(key, value, own = {}) {
      const { cached } = place(key);
      const text = json(value);
      if (text === undefined) throw new TypeError('undefined cannot be kept');
      // A load that is under way may have an older value: without its lock it does not overwrite this one.
      const replies = await cached
        .multi()
        .set(valueOf(key), text, { px: endOf(cached, own) })
        .del(lockOf(key))
        .exec();
      if (replies[0][0] !== null) throw replies[0][0];
    },
    async delete(key) {
      await place(key).cached.del(valueOf(key), lockOf(key));
    },
  });

  /** Begins a load that other callers in this process wait for, until it is overdue. */
  function begin(
    name: string,
    cached: RedisNamespace,
    key: string,
    load: () => Promise<string | undefined>,
    px: number,
  ): Promise<string | undefined> {
    if (running >= maxLoads) throw new TenantryError('CLIENTS_EXHAUSTED', { store: 'the cache' });
    running += 1;
    let timer: NodeJS.Timeout | undefined;
    const noLonger = (): void => {
      if (loads.get(name) === begun) loads.delete(name);
    };
    let giveUp: (as: typeof OVERDUE) => void = () => undefined;
    const overdue = new Promise<typeof OVERDUE>((resolve) => (giveUp = resolve));
    const timed = (): Promise<string | undefined> => {
      timer = setTimeout(() => {
        noLonger();
        giveUp(OVERDUE);
      }, lockMs);
      return load();
    };
    const text = loadOnce(cached, key, timed, px).finally(() => {
      running -= 1;
      clearTimeout(timer);
      noLonger();
    });
    const begun: Load = { text, overdue };
    loads.set(name, begun);
    return text;
  }

  function place(key: string): { cached: RedisNamespace; name: string } {
    // Only text: within a template any object would become '[object Object]', and so be the same key.
    refuseOtherThanText(key);
    const cached = redis().namespace(namespace);
    return { cached, name: wireKeyIn(cached, valueOf(key)) };
  }

  /** Milliseconds. */
  function endOf({ ttlSeconds }: RedisNamespace, own: { ttlSeconds?: number }): number {
    const lives = own.ttlSeconds ?? options.ttlSeconds ?? ttlSeconds ?? FIVE_MINUTES;
    refuseOtherThanPositive('ttlSeconds', lives);
    return Math.ceil(lives * 1_000);
  }

  /** Loads under the lock. Without it when another process has held it for too long, or when it cannot be taken at all. */
  async function loadOnce(
    cached: RedisNamespace,
    key: string,
    load: () => Promise<string | undefined>,
    px: number,
  ): Promise<string | undefined> {
    const token = randomUUID();
    const until = performance.now() + lockMs;
    for (let wait = 5; performance.now() < until; wait = Math.min(wait * 2, 100)) {
      const state = await lock(cached, key, token).catch(nothing);
      if (state === null) return load();
      if (state.value !== null) return state.value;
      if (state.mine) return loadLocked(cached, key, load, px, token);
      // At random times, so that not all processes ask at the same moment.
      await pause(wait * (0.5 + Math.random()));
    }
    return load();
  }

  /** Takes the lock if it is free, and then reads the value: the lock's last holder may have just written it. */
  async function lock(
    cached: RedisNamespace,
    key: string,
    token: string,
  ): Promise<{ value: string | null; mine: boolean }> {
    const [taken, found] = await cached
      .pipeline()
      .set(lockOf(key), token, { px: lockMs, condition: 'nx' })
      .get(valueOf(key))
      .exec();
    if (taken[0] !== null || found[0] !== null) throw taken[0] ?? found[0];
    const mine = taken[1] === 'OK';
    if (mine && found[1] !== null) await unlock(cached, key, token);
    return { value: found[1], mine };
  }

  async function loadLocked(
    cached: RedisNamespace,
    key: string,
    load: () => Promise<string | undefined>,
    px: number,
    token: string,
  ): Promise<string | undefined> {
    const text = await load().catch(async (error: unknown) => {
      await unlock(cached, key, token);
      throw error;
    });
    const keep = text !== undefined && Buffer.byteLength(text) <= maxBytes ? { text, px } : undefined;
    await unlock(cached, key, token, keep);
    return text;
  }

  /** Writes the value and frees the lock, if it is still ours. A lock that cannot be freed expires. */
  async function unlock(
    cached: RedisNamespace,
    key: string,
    token: string,
    keep?: { readonly text: string; readonly px: number },
  ): Promise<void> {
    if ((await cached.get(lockOf(key)).catch(nothing)) !== token) return;
    const chain = cached.multi();
    if (keep !== undefined) chain.set(valueOf(key), keep.text, { px: keep.px });
    const done = await chain.del(lockOf(key)).exec().catch(nothing);
    // The value could not be written, perhaps for lack of room. The lock is freed all the same, so that nobody waits for it.
    if (done === null && keep !== undefined) await cached.del(lockOf(key)).catch(nothing);
  }
}

// The prefixes keep the two kinds of key apart, whatever the product's keys are.
const valueOf = (key: string): string => `v:${key}`;
const lockOf = (key: string): string => `l:${key}`;

const json = (value: unknown): string | undefined => JSON.stringify(value);

/** For a store that is away, full, or may only be read, the answer is null. Other errors are thrown. */
function nothing(error: unknown): null {
  if (error instanceof TenantryError && AWAY.has(error.code)) return null;
  throw error;
}
const AWAY = new Set<string>([
  'STORE_UNAVAILABLE',
  'CLIENTS_EXHAUSTED',
  'QUOTA_EXCEEDED',
  'TENANT_SUSPENDED',
]);
