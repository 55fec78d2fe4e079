/**
 * Quotas of a namespace (`maxKeys`, `maxBytes` of the manifest), counted without scripts. Two sorted sets of the tenant's own
 * hold the counts: an index of the namespace's keys by when they expire, and the places of keys that are about to be written.
 *
 * How exact `maxKeys` is: a write takes its places atomically before it is sent, and gives them back when it puts its keys into
 * the index. So a key is counted from before it exists until after it has gone, whoever removes it meanwhile.
 * - Two callers at the limit may both be refused where one would have fitted.
 * - A place counts for ten seconds if its write was given up or its process died.
 * - Some keys are counted after they have gone, until a refused write looks for them: keys that went otherwise than by DEL,
 *   UNLINK, GETDEL or the TTL that they were written with (the last element of a list was popped, the TTL was shortened),
 *   and keys whose write the server refused.
 *
 * How exact `maxBytes` is: MEMORY USAGE, counting all elements, of up to 64 random keys is scaled to the number of keys, so it is
 * exact up to 64 keys. Keys that were found to be a large part of the total are measured by themselves. The bytes that this
 * process has sent since are added. It is measured again after a second, and at the limit at once, but never so often that the
 * server spends more than a twentieth of its time on it: collections of millions of elements are measured every few seconds.
 */
import { randomUUID } from 'node:crypto';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisKey } from '../../domain/names.js';
import type { Sent } from './commands.js';
import type { Keys } from './keys.js';
import type { Reply } from './resp.js';

/** Sends commands as the tenant; as one transaction if `atomic`. */
export type Send = (
  commands: readonly (readonly string[])[],
  options: { atomic: boolean; isRead: boolean },
) => Promise<Reply[]>;

const SAMPLE = 64;
/** How old an estimate of the bytes may be, in milliseconds: for a write that fits, and for one that would be refused. */
const ESTIMATE_FOR = 1_000;
const REFUSE_FOR = 20;
/** The next measurement is not before this many times as long as the last one took. */
const PACE = 20;
/** Milliseconds. A look that took no longer is taken at its word. */
const SHORT_LOOK = 10;
const MAX_ESTIMATES = 50_000;
/** Milliseconds: longer than a write may take, and longer than the clocks of processes and server differ. */
const GRACE = 10_000;

export const hasQuota = ({ maxKeys, maxBytes }: Keys): boolean =>
  maxKeys !== undefined || maxBytes !== undefined;

const indexKey = (tenantId: TenantId, namespace: string): string =>
  redisKey(tenantId, 'tenantry', `quota:${namespace}`);
const placesKey = (tenantId: TenantId, namespace: string): string =>
  redisKey(tenantId, 'tenantry', `places:${namespace}`);

const endOf = (lives: number | undefined): string =>
  lives === undefined ? '+inf' : String(Date.now() + lives);

/**
 * Commands that keep the index true. It may name a key that does not exist, but it must never miss one that does. So a key is
 * put into the index before it is written, since there may be no memory left afterwards. It is put there again after the write,
 * since another caller may have removed it in between. And it is taken out before it is removed.
 */
export function indexed(
  tenantId: TenantId,
  { namespace }: Keys,
  { makes = [], frees = [], moves = [], lives }: Sent<unknown>,
): { before: string[][]; behind: string[][] } {
  const index = indexKey(tenantId, namespace);
  const made = makes.map((key) => ['ZADD', index, 'GT', endOf(lives), key]);
  return {
    before: [...made, ...(frees.length === 0 ? [] : [['ZREM', index, ...frees]])],
    behind: [...made, ...moves.map((key) => ['ZADD', index, 'XX', 'GT', endOf(lives), key])],
  };
}

/** What a write is about to take. */
export interface Claim {
  /** For each key, the name of the place that is taken for it. */
  readonly places: ReadonlyMap<string, string>;
  readonly bytes: number;
}

/** @returns the places of a write, and the commands that are sent after it and give them back */
export function placesOf(
  tenantId: TenantId,
  { namespace, maxKeys }: Keys,
  writes: readonly Sent<unknown>[],
): { places: ReadonlyMap<string, string>; giveBack: string[][] } {
  const keys = maxKeys === undefined ? [] : writes.flatMap(({ makes = [] }) => makes);
  const id = randomUUID();
  const places = new Map([...new Set(keys)].map((key, i) => [key, `${id} ${i}`]));
  const index = placesKey(tenantId, namespace);
  return { places, giveBack: places.size === 0 ? [] : [['ZREM', index, ...places.values()]] };
}

/** The bytes of a namespace as last measured, and what was claimed since. */
interface Estimate extends Weight {
  at: number;
  since: number;
  /** Bytes claimed by writes that have not ended: a measurement may miss them. */
  underWay: number;
  weighing: Promise<void> | undefined;
}

interface Weight {
  bytes: number;
  /** Keys that are a large part of the total. They are measured each time, since a sample of many keys would miss them. */
  heavy: readonly string[];
  /** How long the server took to measure, in milliseconds. */
  took: number;
}

export interface Quotas {
  /**
   * Called before a write.
   * @returns a function to be called when the write has ended, however it did
   * @throws TenantryError QUOTA_EXCEEDED: then nothing may be written
   */
  claim(tenantId: TenantId, keys: Keys, claim: Claim, send: Send): Promise<() => void>;
  /** Called after a command that may have removed the keys. Those that do not exist are taken out of the index. */
  forget(tenantId: TenantId, keys: Keys, gone: readonly string[], send: Send): Promise<void>;
}

export function createQuotas(): Quotas {
  const estimates = new Map<string, Estimate>();

  return {
    async claim(tenantId, keys, { places, bytes }, send) {
      await takePlaces(tenantId, keys, places, send);
      if (keys.maxBytes === undefined) return () => undefined;
      const end = await takeRoom(indexKey(tenantId, keys.namespace), keys.maxBytes, bytes, send);
      if (end !== undefined) return end;
      await leavePlaces(tenantId, keys, places, send);
      throw exceeded(keys, 'bytes');
    },
    async forget(tenantId, keys, gone, send) {
      await forget(tenantId, keys, gone, send);
    },
  };

  /** @returns the same as `claim`, or undefined when there is no room */
  async function takeRoom(
    index: string,
    maxBytes: number,
    bytes: number,
    send: Send,
  ): Promise<(() => void) | undefined> {
    if (bytes > maxBytes) return undefined;
    const estimate = estimateOf(index);
    for (;;) {
      await estimate.weighing;
      if (estimate.weighing !== undefined) continue;
      const age = performance.now() - estimate.at;
      const isOver = estimate.bytes + estimate.since + bytes > maxBytes;
      // Before a write is refused, the bytes are measured again, as far as that is cheap.
      if (age > Math.max(isOver ? REFUSE_FOR : ESTIMATE_FOR, estimate.took * PACE)) {
        await weighAgain(estimate, index, send);
        continue;
      }
      if (isOver) return undefined;
      // No await since the check, so that no two callers take the same room.
      estimate.since += bytes;
      estimate.underWay += bytes;
      return () => {
        estimate.underWay -= bytes;
      };
    }
  }

  function estimateOf(index: string): Estimate {
    const known = estimates.get(index);
    if (known !== undefined) return known;
    if (estimates.size >= MAX_ESTIMATES) estimates.clear();
    const fresh: Estimate = {
      at: Number.NEGATIVE_INFINITY,
      bytes: 0,
      heavy: [],
      took: 0,
      since: 0,
      underWay: 0,
      weighing: undefined,
    };
    estimates.set(index, fresh);
    return fresh;
  }

  /** Measures once for all callers that wait: with a measurement each, every one of them would find room for itself. */
  function weighAgain(estimate: Estimate, index: string, send: Send): Promise<void> {
    estimate.since = estimate.underWay;
    estimate.weighing = weigh(index, estimate.heavy, send)
      .then((weight) => {
        // What took far longer than the look before was this process that stood still, or somebody else's command. Where
        // it is the keys, the next looks find out.
        const took = Math.min(weight.took, 2 * Math.max(estimate.took, SHORT_LOOK));
        Object.assign(estimate, weight, { took, at: performance.now() });
      })
      .finally(() => {
        estimate.weighing = undefined;
      });
    return estimate.weighing;
  }
}

/** @throws TenantryError QUOTA_EXCEEDED */
async function takePlaces(
  tenantId: TenantId,
  keys: Keys,
  places: ReadonlyMap<string, string>,
  send: Send,
): Promise<void> {
  const { namespace, maxKeys } = keys;
  if (places.size === 0 || maxKeys === undefined) return;
  const [index, taken] = [indexKey(tenantId, namespace), placesKey(tenantId, namespace)];
  for (let attempt = 1; ; attempt++) {
    const now = Date.now();
    const until = String(now + GRACE);
    const [, , known, , keyCount, placeCount] = await send(
      [
        ['ZREMRANGEBYSCORE', index, '-inf', `(${now - GRACE}`],
        ['ZREMRANGEBYSCORE', taken, '-inf', `(${now}`],
        ['ZMSCORE', index, ...places.keys()],
        ['ZADD', taken, ...[...places.values()].flatMap((place) => [until, place])],
        ['ZCARD', index],
        ['ZCARD', taken],
      ],
      { atomic: true, isRead: false },
    );
    // A key that is in the index already is not counted twice.
    const counted = (known as Reply[]).filter((score) => score !== null).length;
    if (counted === places.size || Number(keyCount) + Number(placeCount) - counted <= maxKeys) return;
    await leavePlaces(tenantId, keys, places, send);
    if (attempt > 1 || (await sweep(tenantId, keys, send)) === 0) throw exceeded(keys, 'keys');
  }
}

async function leavePlaces(
  tenantId: TenantId,
  { namespace }: Keys,
  places: ReadonlyMap<string, string>,
  send: Send,
): Promise<void> {
  if (places.size === 0) return;
  const index = placesKey(tenantId, namespace);
  await send([['ZREM', index, ...places.values()]], { atomic: false, isRead: false });
}

/**
 * Looks for keys in the index that no longer exist, and takes them out.
 * @returns how many
 */
async function sweep(tenantId: TenantId, keys: Keys, send: Send): Promise<number> {
  const index = indexKey(tenantId, keys.namespace);
  // The keys that expire first are the most likely to be gone; a random sample finds others.
  const found = await send(
    [
      ['ZRANGE', index, '0', String(SAMPLE - 1)],
      ['ZRANDMEMBER', index, String(SAMPLE)],
    ],
    { atomic: false, isRead: true },
  );
  const sample = [...new Set(found.flat() as string[])];
  const present = await send(
    sample.map((key) => ['EXISTS', key]),
    { atomic: false, isRead: true },
  );
  return forget(
    tenantId,
    keys,
    sample.filter((_, i) => present[i] === 0),
    send,
  );
}

/**
 * Takes keys out of the index, except those that exist.
 * @returns how many
 */
async function forget(
  tenantId: TenantId,
  { namespace, ttlSeconds }: Keys,
  gone: readonly string[],
  send: Send,
): Promise<number> {
  if (gone.length === 0) return 0;
  const index = indexKey(tenantId, namespace);
  const [, ...present] = await send([['ZREM', index, ...gone], ...gone.map((key) => ['EXISTS', key])], {
    atomic: true,
    isRead: false,
  });
  const back = gone.filter((_, i) => present[i] === 1);
  const end = endOf(ttlSeconds === undefined ? undefined : ttlSeconds * 1_000);
  // These were made again meanwhile.
  if (back.length > 0)
    await send([['ZADD', index, 'GT', ...back.flatMap((key) => [end, key])]], {
      atomic: false,
      isRead: false,
    });
  return gone.length - back.length;
}

async function weigh(index: string, heavy: readonly string[], send: Send): Promise<Weight> {
  const read = { atomic: false, isRead: true };
  const begun = performance.now();
  const [sample] = await send([['ZRANDMEMBER', index, String(SAMPLE)]], read);
  const keys = [...new Set([...heavy, ...(sample as string[])])];
  const asked = performance.now();
  const [total, ...weights] = await send(
    // SAMPLES 0 counts all elements. Any other number measures only the first ones and assumes that the rest are alike.
    [['ZCARD', index], ...keys.map((key) => ['MEMORY', 'USAGE', key, 'SAMPLES', '0'])],
    read,
  );
  // Without the round trip, which is what the first command took.
  const took = Math.max(0, performance.now() - asked - (asked - begun));
  const bytesOf = (at: number): number => Number(weights[at] ?? 0);
  const sum = (from: number, to: number): number =>
    keys.slice(from, to).reduce((bytes, _, i) => bytes + bytesOf(from + i), 0);
  const sampled = keys.length - heavy.length;
  const others = Number(total) - heavy.filter((_, i) => weights[i] !== null).length;
  const scale = Number(total) <= SAMPLE || sampled === 0 ? 1 : others / sampled;
  const bytes = sum(0, heavy.length) + sum(heavy.length, keys.length) * scale;
  // There are fewer than 64 heavy keys, since each has more than a 64th of the total.
  return { bytes, heavy: keys.filter((_, i) => bytesOf(i) > bytes / SAMPLE), took };
}

const exceeded = ({ namespace }: Keys, what: 'keys' | 'bytes'): TenantryError =>
  new TenantryError('QUOTA_EXCEEDED', { what: `${what} in the Redis namespace "${namespace}"` });
