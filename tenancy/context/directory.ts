/**
 * A cache of which tenants there are. The catalogue notifies of changes, which arrive within milliseconds. But staleness is
 * bounded by time alone: no answer is older than `maxStalenessMs`, whether notifications arrive or not. When the catalogue is
 * away, answers that are young enough are still given, and all other questions fail.
 */
import { LRUCache } from 'lru-cache';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import { TenantryError } from '../../domain/errors.js';
import { isUuid, type TenantId } from '../../domain/ids.js';
import { wholeSettings } from '../positive.js';
import { listen } from './listener.js';
import { createLookups, type Answer, type TenantEntry, type TenantKey } from './lookups.js';

export type { TenantEntry, TenantKey } from './lookups.js';

export interface DirectoryOptions {
  /** The control database as the lookup role: for statements. */
  readonly pool: Pool;
  /** The same, for the listener's own connection. */
  readonly url: string;
  readonly log: Logger;
  /** How old an answer may be at most, in milliseconds. Default: 5,000. */
  readonly maxStalenessMs?: number;
  /** How long it is remembered that a tenant does not exist or is not ready, in milliseconds. Default: 1,000. */
  readonly negativeMs?: number;
  /** How many tenants are kept; the least recently used goes first. Default: 10,000. */
  readonly maxTenants?: number;
  /** How many names are kept of which it is known that no tenant has them. Default: 10,000. */
  readonly maxUnknown?: number;
}

export interface Directory {
  /**
   * The answer from memory, if there is one that is young enough.
   * @returns the tenant, null when it is known that there is none, or undefined when the catalogue must be asked
   */
  peek(key: TenantKey): TenantEntry | null | undefined;
  /**
   * The answer from memory or from the catalogue.
   * @throws TenantryError CATALOGUE_UNAVAILABLE
   */
  find(key: TenantKey): Promise<TenantEntry | undefined>;
  /** Registers a listener, which gets the id of each tenant that has changed, or undefined when any may have. */
  onChange(listener: (tenantId: TenantId | undefined) => void): void;
  /** Whether notifications arrive. If not, changes are noticed within `maxStalenessMs`. */
  isListening(): boolean;
  readonly listening: Promise<void>;
  close(): Promise<void>;
}

/** The key for text from outside, which may be an id or a slug. Undefined when it cannot be a tenant's. */
export function keyOf(idOrSlug: string): TenantKey | undefined {
  // An object could give another text at each reading, and would spoil a look-up that others share.
  if (typeof idOrSlug !== 'string') return undefined;
  return isUuid(idOrSlug) ? `said:${idOrSlug}` : slugKey(idOrSlug);
}

export function slugKey(slug: string): TenantKey | undefined {
  return SLUG.test(slug) ? `slug:${slug}` : undefined;
}

const SLUG = /^[a-z0-9][a-z0-9-]{0,62}$/;
const DEFAULTS = { maxStalenessMs: 5_000, negativeMs: 1_000, maxTenants: 10_000, maxUnknown: 10_000 };
/** States that a tenant leaves without a notification, hence remembered only for `negativeMs`. */
const PASSING = new Set(['pending', 'provisioning', 'failed']);

interface Kept {
  readonly entry: TenantEntry | null;
  readonly idKey: TenantKey;
  readonly until: number;
  /** From this time on, a use of the entry makes the catalogue be asked again in the background. */
  readonly refreshAt: number;
}

/** @throws RangeError of a bound or a time that is no whole number from 1 */
export function createDirectory(options: DirectoryOptions): Directory {
  const { pool, url, log } = options;
  // By what is no number an answer would never be too old.
  const { maxStalenessMs, negativeMs, maxTenants, maxUnknown } = wholeSettings(DEFAULTS, options);
  const lookups = createLookups(pool);
  const byKey = new LRUCache<TenantKey, Kept>({ max: 3 * maxTenants });
  const unknown = new LRUCache<TenantKey, Kept>({ max: maxUnknown });
  const flights = new Map<TenantKey, Flight>();
  const listeners = new Set<(tenantId: TenantId | undefined) => void>();

  const forget = (id: string | undefined): void => {
    if (id === undefined) byKey.clear();
    else {
      const kept = byKey.peek(`id:${id}`);
      byKey.delete(`id:${id}`);
      byKey.delete(`said:${id}`);
      if (kept?.entry) byKey.delete(`slug:${kept.entry.slug}`);
    }
    // Answers that are under way may have been read before the change.
    for (const flight of flights.values()) {
      if (id === undefined) flight.all = true;
      else flight.changed.add(id);
    }
    for (const listener of listeners) listener(id as TenantId | undefined);
  };

  const keep = (key: TenantKey, { entry, askedAt }: Answer, flight: Flight): void => {
    if (flight.all || (entry !== undefined && flight.changed.has(entry.tenantId))) return;
    const age = entry === undefined || PASSING.has(entry.state) ? negativeMs : maxStalenessMs;
    const life = Math.min(age, maxStalenessMs);
    const kept: Kept = {
      entry: entry ?? null,
      idKey: entry === undefined ? key : `id:${entry.tenantId}`,
      until: askedAt + life,
      refreshAt: askedAt + life / 2,
    };
    if (entry === undefined) {
      unknown.set(key, kept);
      byKey.delete(key);
      return;
    }
    // Only an answer to this very question is kept under `said:`. Otherwise it is not known whether the id is another's slug.
    if (key.startsWith('said:')) byKey.set(key, kept);
    // `forget` finds the slug through the id's entry. So the id's is set last, here and in `peek`, and is evicted last.
    byKey.set(`slug:${entry.slug}`, kept);
    byKey.set(kept.idKey, kept);
    unknown.delete(`id:${entry.tenantId}`);
    unknown.delete(`slug:${entry.slug}`);
    unknown.delete(key);
  };

  const ask = (key: TenantKey): Promise<TenantEntry | undefined> => {
    const running = flights.get(key);
    if (running !== undefined && !running.all && running.changed.size === 0) return running.promise;
    const flight: Flight = { all: false, changed: new Set(), promise: Promise.resolve(undefined) };
    flight.promise = lookups
      .ask(key)
      .then((answer) => {
        keep(key, answer, flight);
        if (performance.now() - answer.askedAt > maxStalenessMs)
          throw new TenantryError('CATALOGUE_UNAVAILABLE');
        return answer.entry;
      })
      .finally(() => {
        if (flights.get(key) === flight) flights.delete(key);
      });
    flights.set(key, flight);
    return flight.promise;
  };

  const peek = (key: TenantKey): TenantEntry | null | undefined => {
    const kept = byKey.get(key) ?? unknown.get(key);
    if (kept === undefined) return undefined;
    if (kept.idKey !== key) byKey.get(kept.idKey);
    const now = performance.now();
    if (now >= kept.until) return undefined;
    // So a tenant in use never waits for the catalogue. If that is away, the entry is used until it is too old.
    if (kept.entry !== null && now >= kept.refreshAt && !flights.has(key)) ask(key).catch(() => undefined);
    return kept.entry;
  };

  const listener = listen({
    url,
    heartbeatMs: Math.max(Math.floor(maxStalenessMs / 2), 250),
    onChange: forget,
    onConnected: () => forget(undefined),
    onLost: (error) =>
      log.warn({ err: error }, 'changes of tenants are not heard of until the catalogue is back'),
  });
  return {
    peek,
    async find(key) {
      const known = peek(key);
      return known === undefined ? ask(key) : (known ?? undefined);
    },
    onChange: (heard) => void listeners.add(heard),
    isListening: listener.isListening,
    listening: listener.ready,
    close: () => listener.close(),
  };
}

interface Flight {
  promise: Promise<TenantEntry | undefined>;
  /** Whether any tenant may have changed since the look-up began. */
  all: boolean;
  readonly changed: Set<string>;
}
