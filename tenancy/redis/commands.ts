/**
 * The commands of a tenant's namespace: what each sends, and what its reply becomes. Names and shapes are ioredis', with
 * options as an object. Each command says which arguments are keys, so that none goes out without the tenant's prefix.
 *
 * Left out, because connections are shared: SUBSCRIBE, WATCH, SELECT, blocking commands. Also left out is what lists keys
 * (KEYS, SCAN) or runs code (EVAL); the server refuses those as well.
 */
import { type Keys, refusedStatement } from './keys.js';
import type { Reply } from './resp.js';

/** Characters of one write: fewer than may wait for a connection, and far fewer than a string may have. */
export const MAX_LENGTH = 60 * 2 ** 20;

export type Value = string | number;
type Arg = Value;

/** One call. All keys are with the tenant's prefix. */
export interface Sent<R> {
  readonly args: readonly Arg[];
  /** Sent behind `args` in the same write; their replies are dropped. */
  readonly behind?: readonly (readonly Arg[])[];
  /** Keys that it may create. */
  readonly makes?: readonly string[];
  /** Keys that it removes in any case. */
  readonly frees?: readonly string[];
  /** Keys that it has removed if the reply is a text. */
  readonly takes?: readonly string[];
  /** Whether it may make an existing key larger. */
  readonly grows?: boolean;
  /** Keys whose expiry it changes. */
  readonly moves?: readonly string[];
  /** Milliseconds after which the keys of `makes` and `moves` have expired. */
  readonly lives?: number | undefined;
  readonly isRead: boolean;
  reply(raw: Reply): R;
}

export interface SetOptions {
  /** Seconds. */
  readonly ex?: number;
  /** Milliseconds. */
  readonly px?: number;
  readonly condition?: 'nx' | 'xx';
  readonly keepTtl?: boolean;
}

export interface ZRangeOptions {
  readonly by?: 'score' | 'lex';
  readonly reverse?: boolean;
  readonly limit?: { readonly offset: number; readonly count: number };
}

/** An entry of a stream. */
export interface StreamEntry {
  readonly id: string;
  readonly fields: Record<string, string>;
}

// Each cast is to what Redis documents as the command's reply.
const text = (raw: Reply): string | null => raw as string | null;
const count = (raw: Reply): number => raw as number;
const decimal = (raw: Reply): number | null => (raw === null ? null : Number(raw));
const ok = (raw: Reply): 'OK' => raw as 'OK';
const okOrNull = (raw: Reply): 'OK' | null => raw as 'OK' | null;
const texts = (raw: Reply): string[] => raw as string[];
const textsOrNulls = (raw: Reply): (string | null)[] => raw as (string | null)[];
const pairs = (raw: Reply): [string, string][] => {
  const flat = raw as string[];
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i] ?? '', flat[2 * i + 1] ?? '']);
};
const record = (raw: Reply): Record<string, string> => Object.fromEntries(pairs(raw));
const scored = (raw: Reply): { member: string; score: number }[] =>
  pairs(raw).map(([member, score]) => ({ member, score: Number(score) }));
const entries = (raw: Reply): StreamEntry[] =>
  ((raw ?? []) as [string, string[]][]).map(([id, fields]) => ({ id, fields: record(fields) }));

type OfOneKey<A extends readonly Arg[], R> = (keys: Keys, key: string, ...rest: A) => Sent<R>;

const read =
  <A extends readonly Arg[], R>(name: string, reply: (raw: Reply) => R): OfOneKey<A, R> =>
  (keys, key, ...rest) => ({
    args: [name, keys.wire(key), ...rest],
    isRead: true,
    reply,
  });

/** Changes an existing key, and creates none. */
const change =
  <A extends readonly Arg[], R>(name: string, reply: (raw: Reply) => R): OfOneKey<A, R> =>
  (keys, key, ...rest) => ({
    args: [name, keys.wire(key), ...rest],
    isRead: false,
    reply,
  });

/** Changes a key or creates it. A new one gets the namespace's TTL, which later changes do not prolong. */
const make =
  <A extends readonly Arg[], R>(name: string, reply: (raw: Reply) => R): OfOneKey<A, R> =>
  (keys, key, ...rest) =>
    made(keys, [keys.wire(key)], [name, keys.wire(key), ...rest], reply);

const remove =
  (name: 'DEL' | 'UNLINK') =>
  (keys: Keys, ...names: string[]): Sent<number> => {
    const wire = names.map((key) => keys.wire(key));
    return { args: [name, ...wire], frees: wire, isRead: false, reply: count };
  };

function made<R>(keys: Keys, wire: readonly string[], args: Arg[], reply: (raw: Reply) => R): Sent<R> {
  const { ttlSeconds } = keys;
  return {
    args,
    makes: wire,
    ...(ttlSeconds === undefined
      ? {}
      : {
          behind: wire.map((key) => ['EXPIRE', key, ttlSeconds, 'NX']),
          lives: ttlSeconds * 1_000,
        }),
    isRead: false,
    reply,
  };
}

function moved<R>(
  keys: Keys,
  key: string,
  lives: number | undefined,
  name: 'PEXPIRE' | 'PERSIST' | 'GETEX',
  reply: (raw: Reply) => R,
): Sent<R> {
  const wire = keys.wire(key);
  const end = lives === undefined ? [] : name === 'GETEX' ? ['PX', lives] : [lives];
  return { args: [name, wire, ...end], moves: [wire], lives, isRead: false, reply };
}

function set<R>(
  keys: Keys,
  key: string,
  value: Value,
  { ex, px, condition, keepTtl = false }: SetOptions,
  reply: (raw: Reply) => R,
  get = false,
): Sent<R> {
  const wire = keys.wire(key);
  const lives = shorter(keys, px ?? (ex === undefined ? undefined : ex * 1_000));
  const args: Arg[] = ['SET', wire, value];
  if (condition !== undefined) args.push(condition === 'nx' ? 'NX' : 'XX');
  if (get) args.push('GET');
  if (keepTtl) return made(keys, [wire], [...args, 'KEEPTTL'], reply);
  if (lives !== undefined) args.push('PX', lives);
  return { args, makes: [wire], lives, isRead: false, reply };
}

/**
 * Milliseconds: what was asked, at most what the namespace allows.
 * @throws TenantryError STATEMENT_REFUSED for what is no number: a text would be appended to the time in a quota's index
 */
function shorter({ ttlSeconds }: Keys, asked: number | undefined): number | undefined {
  if (asked !== undefined && !Number.isFinite(asked))
    throw refusedStatement('how long a key is to live is not a number');
  if (ttlSeconds === undefined) return asked;
  return Math.min(asked ?? Number.POSITIVE_INFINITY, ttlSeconds * 1_000);
}

export const COMMANDS = {
  // Any key
  exists: (keys: Keys, ...names: string[]): Sent<number> => ({
    args: ['EXISTS', ...names.map((key) => keys.wire(key))],
    isRead: true,
    reply: count,
  }),
  type: read<[], string>('TYPE', (raw) => raw as string),
  del: remove('DEL'),
  unlink: remove('UNLINK'),
  ttl: read<[], number>('TTL', count),
  pttl: read<[], number>('PTTL', count),
  expire: (keys: Keys, key: string, seconds: number): Sent<number> =>
    moved(keys, key, shorter(keys, seconds * 1_000), 'PEXPIRE', count),
  pexpire: (keys: Keys, key: string, milliseconds: number): Sent<number> =>
    moved(keys, key, shorter(keys, milliseconds), 'PEXPIRE', count),
  persist: (keys: Keys, key: string): Sent<number> => {
    if (keys.ttlSeconds !== undefined) throw refusedStatement('the namespace has a TTL');
    return moved(keys, key, undefined, 'PERSIST', count);
  },

  // Strings
  get: read<[], string | null>('GET', text),
  mget: (keys: Keys, ...names: string[]): Sent<(string | null)[]> => ({
    args: ['MGET', ...names.map((key) => keys.wire(key))],
    isRead: true,
    reply: textsOrNulls,
  }),
  strlen: read<[], number>('STRLEN', count),
  set: (keys: Keys, key: string, value: Value, options: SetOptions = {}): Sent<'OK' | null> =>
    set(keys, key, value, options, okOrNull),
  setex: (keys: Keys, key: string, seconds: number, value: Value): Sent<'OK'> =>
    set(keys, key, value, { ex: seconds }, ok),
  setnx: (keys: Keys, key: string, value: Value): Sent<0 | 1> =>
    set(keys, key, value, { condition: 'nx' }, (raw) => (raw === null ? 0 : 1)),
  getset: (keys: Keys, key: string, value: Value): Sent<string | null> =>
    set(keys, key, value, {}, text, true),
  mset: (keys: Keys, values: Readonly<Record<string, Value>>): Sent<'OK'> => {
    const given = Object.entries(values).map(([key, value]) => [keys.wire(key), value] as const);
    return made(
      keys,
      given.map(([key]) => key),
      ['MSET', ...given.flat()],
      ok,
    );
  },
  getdel: (keys: Keys, key: string): Sent<string | null> => ({
    ...change<[], string | null>('GETDEL', text)(keys, key),
    takes: [keys.wire(key)],
  }),
  getex: (keys: Keys, key: string, { ex, px }: Pick<SetOptions, 'ex' | 'px'>): Sent<string | null> =>
    moved(keys, key, shorter(keys, px ?? (ex === undefined ? undefined : ex * 1_000)), 'GETEX', text),
  append: make<[Value], number>('APPEND', count),
  incr: make<[], number>('INCR', count),
  incrby: make<[number], number>('INCRBY', count),
  incrbyfloat: make<[number], number>('INCRBYFLOAT', Number),
  decr: make<[], number>('DECR', count),
  decrby: make<[number], number>('DECRBY', count),

  // Hashes
  hset: (keys: Keys, key: string, values: Readonly<Record<string, Value>>): Sent<number> =>
    make<Value[], number>('HSET', count)(keys, key, ...Object.entries(values).flat()),
  hsetnx: make<[field: string, value: Value], number>('HSETNX', count),
  hincrby: make<[field: string, by: number], number>('HINCRBY', count),
  hget: read<[field: string], string | null>('HGET', text),
  hmget: read<string[], (string | null)[]>('HMGET', textsOrNulls),
  hgetall: read<[], Record<string, string>>('HGETALL', record),
  hkeys: read<[], string[]>('HKEYS', texts),
  hvals: read<[], string[]>('HVALS', texts),
  hlen: read<[], number>('HLEN', count),
  hexists: read<[field: string], number>('HEXISTS', count),
  hdel: change<string[], number>('HDEL', count),

  // Lists
  lpush: make<Value[], number>('LPUSH', count),
  rpush: make<Value[], number>('RPUSH', count),
  lpop: change<[], string | null>('LPOP', text),
  rpop: change<[], string | null>('RPOP', text),
  lrange: read<[start: number, stop: number], string[]>('LRANGE', texts),
  lindex: read<[index: number], string | null>('LINDEX', text),
  llen: read<[], number>('LLEN', count),
  lrem: change<[count: number, value: Value], number>('LREM', count),
  lset: (keys: Keys, key: string, index: number, value: Value): Sent<'OK'> => ({
    ...change<[index: number, value: Value], 'OK'>('LSET', ok)(keys, key, index, value),
    grows: true,
  }),
  ltrim: change<[start: number, stop: number], 'OK'>('LTRIM', ok),

  // Sets
  sadd: make<Value[], number>('SADD', count),
  srem: change<Value[], number>('SREM', count),
  smembers: read<[], string[]>('SMEMBERS', texts),
  sismember: read<[member: Value], number>('SISMEMBER', count),
  scard: read<[], number>('SCARD', count),
  spop: change<[], string | null>('SPOP', text),
  srandmember: read<[], string | null>('SRANDMEMBER', text),

  // Sorted sets
  zadd: (keys: Keys, key: string, scores: Readonly<Record<string, number>>): Sent<number> =>
    make<Value[], number>('ZADD', count)(
      keys,
      key,
      ...Object.entries(scores).flatMap(([member, score]) => [scoreArg(score), member]),
    ),
  zincrby: make<[by: number, member: Value], number>('ZINCRBY', Number),
  zrem: change<Value[], number>('ZREM', count),
  zcard: read<[], number>('ZCARD', count),
  zcount: read<[min: Value, max: Value], number>('ZCOUNT', count),
  zscore: read<[member: Value], number | null>('ZSCORE', decimal),
  zrank: read<[member: Value], number | null>('ZRANK', decimal),
  zrange: (keys: Keys, key: string, start: Value, stop: Value, options?: ZRangeOptions): Sent<string[]> =>
    read<Value[], string[]>('ZRANGE', texts)(keys, key, start, stop, ...range(options)),
  zrangeWithScores: (keys: Keys, key: string, start: Value, stop: Value, options?: ZRangeOptions) =>
    read<Value[], { member: string; score: number }[]>('ZRANGE', scored)(
      keys,
      key,
      start,
      stop,
      ...range(options),
      'WITHSCORES',
    ),
  zpopmin: change<[], { member: string; score: number }[]>('ZPOPMIN', scored),
  zpopmax: change<[], { member: string; score: number }[]>('ZPOPMAX', scored),
  zremrangebyscore: change<[min: Value, max: Value], number>('ZREMRANGEBYSCORE', count),
  zremrangebyrank: change<[start: number, stop: number], number>('ZREMRANGEBYRANK', count),

  // Streams
  xadd: (
    keys: Keys,
    key: string,
    fields: Readonly<Record<string, Value>>,
    options: { readonly id?: string; readonly maxLength?: number } = {},
  ): Sent<string> =>
    make<Value[], string>('XADD', (raw) => raw as string)(
      keys,
      key,
      ...(options.maxLength === undefined ? [] : ['MAXLEN', '~', options.maxLength]),
      options.id ?? '*',
      ...Object.entries(fields).flat(),
    ),
  xlen: read<[], number>('XLEN', count),
  xdel: change<string[], number>('XDEL', count),
  xrange: (keys: Keys, key: string, from: string, to: string, limit?: number): Sent<StreamEntry[]> =>
    read<Value[], StreamEntry[]>('XRANGE', entries)(
      keys,
      key,
      from,
      to,
      ...(limit === undefined ? [] : ['COUNT', limit]),
    ),
  /** Entries behind an id, by stream. Never blocks. */
  xread: (
    keys: Keys,
    after: Readonly<Record<string, string>>,
    limit?: number,
  ): Sent<{ key: string; entries: StreamEntry[] }[]> => {
    // Read once: an object that gives other keys the second time would have ids taken for keys.
    const given = Object.entries(after).map(([key, id]) => [keys.wire(key), id] as const);
    return {
      args: [
        'XREAD',
        ...(limit === undefined ? [] : ['COUNT', limit]),
        'STREAMS',
        ...given.map(([key]) => key),
        ...given.map(([, id]) => id),
      ],
      isRead: true,
      reply: (raw) =>
        ((raw ?? []) as [string, Reply][]).map(([key, list]) => ({
          key: keys.plain(key),
          entries: entries(list),
        })),
    };
  },
} as const satisfies Record<string, (keys: Keys, ...args: never[]) => Sent<unknown>>;

function range({ by, reverse = false, limit }: ZRangeOptions = {}): Value[] {
  return [
    ...(by === undefined ? [] : [by === 'score' ? 'BYSCORE' : 'BYLEX']),
    ...(reverse ? ['REV'] : []),
    ...(limit === undefined ? [] : ['LIMIT', limit.offset, limit.count]),
  ];
}

const scoreArg = (score: number): Value =>
  score === Number.POSITIVE_INFINITY ? '+inf' : score === Number.NEGATIVE_INFINITY ? '-inf' : score;

/**
 * A command's arguments as text.
 * @throws TenantryError STATEMENT_REFUSED for what is neither a string nor a number, or is too long
 */
export function flat(args: readonly Arg[]): string[] {
  return args.map((arg) => {
    if (typeof arg === 'string') {
      if (arg.length > MAX_LENGTH) throw refusedStatement('an argument is too long');
      return arg;
    }
    if (typeof arg === 'number') return String(arg);
    throw refusedStatement('an argument is neither a string nor a number');
  });
}
