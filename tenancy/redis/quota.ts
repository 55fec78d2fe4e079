/**
 * Quotas of a namespace (`maxKeys`, `maxBytes` of the manifest), counted without scripts: an index of the namespace's
 * keys by when they end, in a sorted set of the tenant's own.
 *
 * How exact: a place in the index is taken, atomically, before the key is written. Callers at the limit may both be
 * refused where one had fitted. A key that went otherwise than by DEL, UNLINK, GETDEL or its TTL (the last element of a
 * list was popped) is counted until a refused write looks for such. Bytes are MEMORY USAGE of up to 64 keys taken at
 * random, times their number (so up to 64 keys exact), plus what this process wrote since; other processes' writes of
 * the last second are not in it.
 */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisKey } from '../../domain/names.js';
import type { Keys } from './keys.js';
import type { Reply } from './resp.js';

/** Sends commands as the tenant, as one transaction where so asked. */
export type Send = (
  commands: readonly (readonly string[])[],
  options: { atomic: boolean; isRead: boolean },
) => Promise<Reply[]>;

const SAMPLE = 64;
const ESTIMATE_FOR = 1_000;
const MAX_ESTIMATES = 50_000;

export const hasQuota = ({ maxKeys, maxBytes }: Keys): boolean =>
  maxKeys !== undefined || maxBytes !== undefined;

const indexKey = (tenantId: TenantId, namespace: string): string =>
  redisKey(tenantId, 'tenantry', `quota:${namespace}`);

const endOf = (lives: number | undefined): string =>
  lives === undefined ? '+inf' : String(Date.now() + lives);

/** Commands that keep the index true behind those that end keys or change when they end. */
export function indexed(
  tenantId: TenantId,
  { namespace }: Keys,
  sent: {
    readonly frees?: readonly string[];
    readonly moves?: readonly string[];
    readonly lives?: number | undefined;
  },
): string[][] {
  const index = indexKey(tenantId, namespace);
  const { frees = [], moves = [] } = sent;
  return [
    ...(frees.length === 0 ? [] : [['ZREM', index, ...frees]]),
    ...moves.map((key) => ['ZADD', index, 'XX', 'GT', endOf(sent.lives), key]),
  ];
}

export interface Claim {
  readonly key: string;
  readonly lives: number | undefined;
}

interface Estimate {
  at: number;
  bytes: number;
  /** Written by this process since. */
  since: number;
}

export interface Quotas {
  /** Before a write. @throws TenantryError QUOTA_EXCEEDED; nothing is to be written then. */
  claim(tenantId: TenantId, keys: Keys, claims: readonly Claim[], bytes: number, send: Send): Promise<void>;
}

export function createQuotas(): Quotas {
  const estimates = new Map<string, Estimate>();

  return {
    async claim(tenantId, keys, claims, bytes, send) {
      const index = indexKey(tenantId, keys.namespace);
      const undo = await claimKeys(index, keys, claims, send);
      if (keys.maxBytes === undefined) return;
      if (await fits(index, keys.maxBytes, bytes, send)) return;
      await undo();
      throw exceeded(keys, 'bytes');
    },
  };

  async function fits(index: string, maxBytes: number, bytes: number, send: Send): Promise<boolean> {
    if (bytes > maxBytes) return false;
    let estimate = estimates.get(index);
    const isOld = (age: number): boolean => estimate === undefined || Date.now() - estimate.at > age;
    const isOver = (): boolean =>
      estimate === undefined || estimate.bytes + estimate.since + bytes > maxBytes;
    // A refusal is by what is there now, not by what was there a while ago.
    if (isOld(ESTIMATE_FOR) || (isOver() && isOld(20))) {
      estimate = { at: Date.now(), bytes: await weigh(index, send), since: 0 };
      if (estimates.size >= MAX_ESTIMATES) estimates.clear();
      estimates.set(index, estimate);
    }
    if (estimate === undefined || isOver()) return false;
    estimate.since += bytes;
    return true;
  }
}

/** @returns what gives back the places that were taken */
async function claimKeys(
  index: string,
  keys: Keys,
  claims: readonly Claim[],
  send: Send,
): Promise<() => Promise<void>> {
  for (let attempt = 1; ; attempt++) {
    const replies = await send(
      [
        ['ZREMRANGEBYSCORE', index, '-inf', `(${Date.now()}`],
        ...claims.map(({ key, lives }) => ['ZADD', index, 'GT', endOf(lives), key]),
        ['ZCARD', index],
      ],
      { atomic: true, isRead: false },
    );
    const fresh = claims.filter((_, i) => replies[i + 1] === 1).map(({ key }) => key);
    const undo = async (): Promise<void> => {
      if (fresh.length > 0) await send([['ZREM', index, ...fresh]], { atomic: false, isRead: false });
    };
    if (fresh.length === 0 || keys.maxKeys === undefined || Number(replies.at(-1)) <= keys.maxKeys)
      return undo;
    await undo();
    if (attempt > 1 || (await sweep(index, send)) === 0) throw exceeded(keys, 'keys');
  }
}

/** Takes keys out of the index that are no longer there. @returns how many */
async function sweep(index: string, send: Send): Promise<number> {
  const sample = await sampleOf(index, send);
  const present = await send(
    sample.map((key) => ['EXISTS', key]),
    { atomic: false, isRead: true },
  );
  const gone = sample.filter((_, i) => present[i] === 0);
  if (gone.length > 0) await send([['ZREM', index, ...gone]], { atomic: false, isRead: false });
  return gone.length;
}

async function weigh(index: string, send: Send): Promise<number> {
  const sample = await sampleOf(index, send);
  const [total, ...weights] = await send(
    [['ZCARD', index], ...sample.map((key) => ['MEMORY', 'USAGE', key])],
    { atomic: false, isRead: true },
  );
  const sum = weights.reduce<number>((bytes, weight) => bytes + (typeof weight === 'number' ? weight : 0), 0);
  return sample.length === 0 ? 0 : (sum / sample.length) * Number(total);
}

async function sampleOf(index: string, send: Send): Promise<string[]> {
  const [members] = await send([['ZRANDMEMBER', index, String(SAMPLE)]], { atomic: false, isRead: true });
  return Array.isArray(members) ? (members as string[]) : [];
}

const exceeded = ({ namespace }: Keys, what: 'keys' | 'bytes'): TenantryError =>
  new TenantryError('QUOTA_EXCEEDED', { what: `${what} in the Redis namespace "${namespace}"` });
