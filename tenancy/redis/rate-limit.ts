/**
 * A rate limiter: so many in each window, counted in the current tenant's namespace, so that tenants have limits of their
 * own. A window begins with its first request.
 *
 * Exact under any concurrency, because Redis counts: at most `limit` of a window are allowed, in all processes together.
 * The counter is made with its end in the same transaction that counts, so none is left without one by a crash. As with
 * every fixed window, the end of one and the beginning of the next may together see twice the limit.
 */
import type { Request, RequestHandler } from 'express';
import { TenantryError } from '../../domain/errors.js';
import { currentTenant } from '../context/tenant-context.js';
import { refusedStatement, refuseOtherThanText } from './keys.js';
import type { ScopedRedis } from './scoped.js';

export interface RateLimitOptions {
  /** Which limit it is: limiters of the same name count together. */
  readonly name: string;
  /** Allowed in each window. */
  readonly limit: number;
  /** No longer than the TTL of the namespace, where the manifest gives it one. */
  readonly windowMs: number;
  /** Default: `rate`. */
  readonly namespace?: string;
  /** Default: the current tenant's. */
  readonly redis?: () => ScopedRedis;
}

export interface RateLimitResult {
  readonly allowed: boolean;
  readonly remaining: number;
  /** Milliseconds until the window ends. */
  readonly resetMs: number;
}

export interface RateLimiter {
  /**
   * Counts one more, or `cost` many, of `key`: whoever is limited. What is refused is counted too.
   * @throws TenantryError STORE_UNAVAILABLE, TENANT_SUSPENDED (read-only: nothing can be counted), NO_TENANT_CONTEXT,
   *   STATEMENT_REFUSED (a window that the namespace does not allow, a key that is no string)
   */
  consume(key: string, cost?: number): Promise<RateLimitResult>;
  /** Forgets what was counted. */
  reset(key: string): Promise<void>;
  /** Refuses with QUOTA_EXCEEDED (429), which `tenancyProblems()` answers. */
  middleware(options: RateLimitMiddlewareOptions): RequestHandler;
}

export interface RateLimitMiddlewareOptions {
  /** Whoever is limited, such as the principal's id; one key for the whole tenant by default. */
  readonly keyOf?: (request: Request) => string;
  /** Whether requests pass while Redis cannot count: refused with its error by default. */
  readonly passWhenAway?: boolean;
}

export function createRateLimiter(options: RateLimitOptions): RateLimiter {
  const {
    name,
    limit,
    windowMs,
    namespace = 'rate',
    redis = (): ScopedRedis => currentTenant().redis,
  } = options;
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError('limit must be a whole number from 1');
  if (!Number.isSafeInteger(windowMs) || windowMs < 1)
    throw new RangeError('windowMs must be a whole number from 1');
  // The name's length goes first, so that no name and key read like another pair of them.
  const keyed = (key: string): string => {
    refuseOtherThanText(key);
    return `${name.length}:${name}:${key}`;
  };

  async function consume(key: string, cost = 1): Promise<RateLimitResult> {
    if (!Number.isSafeInteger(cost) || cost < 1) throw new RangeError('cost must be a whole number from 1');
    const counter = keyed(key);
    const counters = redis().namespace(namespace);
    if (counters.ttlSeconds !== undefined && counters.ttlSeconds * 1_000 < windowMs)
      throw refusedStatement('the window is longer than the TTL of the namespace');
    const [made, counted, left] = await counters
      .multi()
      .set(counter, 0, { px: windowMs, condition: 'nx' })
      .incrby(counter, cost)
      .pttl(counter)
      .exec();
    const error = made[0] ?? counted[0] ?? left[0];
    if (error !== null) throw error;
    const [count = 0, resetMs = 0] = [counted[1], left[1]];
    // Written by somebody else, without an end or with a later one, such as this limiter's when its window was longer.
    const strays = resetMs < 0 || resetMs > windowMs;
    if (strays) await counters.pexpire(counter, windowMs);
    return {
      allowed: count <= limit,
      remaining: Math.max(0, limit - count),
      resetMs: strays ? windowMs : resetMs,
    };
  }

  // One for all tenants.
  return Object.freeze<RateLimiter>({
    consume,
    async reset(key) {
      await redis().namespace(namespace).del(keyed(key));
    },
    middleware({ keyOf = () => '', passWhenAway = false }) {
      return async (request, response, next) => {
        const result = await consume(keyOf(request)).catch((error: unknown) => {
          if (mayPass(error, passWhenAway)) return undefined;
          throw error;
        });
        if (result === undefined) return next();
        const seconds = Math.ceil(result.resetMs / 1_000);
        response.set({
          'RateLimit-Limit': String(limit),
          'RateLimit-Remaining': String(result.remaining),
          'RateLimit-Reset': String(seconds),
        });
        if (result.allowed) return next();
        response.set('Retry-After', String(Math.max(1, seconds)));
        next(new TenantryError('QUOTA_EXCEEDED', { what: 'requests in this window' }));
      };
    },
  });
}

/** A tenant that may only read cannot be counted, and is to read on. */
function mayPass(error: unknown, passWhenAway: boolean): boolean {
  if (!(error instanceof TenantryError)) return false;
  return error.code === 'TENANT_SUSPENDED' || (passWhenAway && error.code === 'STORE_UNAVAILABLE');
}
