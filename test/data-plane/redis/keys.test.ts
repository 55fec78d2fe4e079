/** Keys that try to be something else. */
import fc from 'fast-check';
import { newTenantId } from '../../../domain/ids.js';
import { COMMANDS, flat, type Sent } from '../../../tenancy/redis/commands.js';
import { type Keys, keysOf, MAX_KEY_BYTES } from '../../../tenancy/redis/keys.js';
import type { RedisNamespace, ScopedRedis } from '../../../tenancy/redis/scoped.js';
import { anyText } from '../../support/any-text.js';
import { type Bench, manifest, openBench, scopedOf, type TestTenant } from './support.js';

describe('keys', () => {
  let bench: Bench;
  let tenant: TestTenant;
  let other: TestTenant;
  let redis: ScopedRedis;
  let notes: RedisNamespace;
  beforeAll(async () => {
    bench = openBench();
    const [a, b] = await bench.tenants(2);
    if (a === undefined || b === undefined) throw new Error('no tenants');
    [tenant, other] = [a, b];
    redis = scopedOf(bench.source(), tenant);
    notes = redis.namespace('notes');
    await bench.admin.set(`${other.prefix}notes:a`, 'theirs');
  });
  afterAll(() => bench.close());

  const names = Object.keys(manifest.redis.namespaces);
  const hostile = fc.oneof(
    anyText({ maxLength: 40 }),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc
      .array(
        fc.constantFrom(
          '\r\n',
          '*1\r\n',
          '$8\r\n',
          'FLUSHALL',
          '{',
          '}',
          ':',
          '*',
          '?',
          '[a]',
          '\\',
          '\0',
          '..',
          ' ',
          't:',
        ),
      )
      .map((parts) => parts.join('')),
    fc.uuid().map((id) => `t:{${id}}:notes:a`),
  );

  it('whatever is asked for, the key on the wire has the prefix, and comes back as it was', () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), hostile, (name, key) => {
        const tenantId = newTenantId();
        const keys = keysOf(manifest, tenantId, name);
        const wire = keys.wire(key);
        expect(wire.startsWith(`t:{${tenantId}}:${name}:`)).toBe(true);
        expect(keys.plain(wire)).toBe(key);
      }),
      { numRuns: 500 },
    );
  });

  it('two namespaces never share a key on the wire', () => {
    fc.assert(
      fc.property(
        fc.tuple(fc.constantFrom(...names), hostile),
        fc.tuple(fc.constantFrom(...names), hostile),
        (a, b) => {
          const id = tenant.tenantId;
          const [one, two] = [a, b].map(([name, key]) => keysOf(manifest, id, name).wire(key));
          expect(one === two).toBe(a[0] === b[0] && a[1] === b[1]);
        },
      ),
    );
  });

  it('on a real server each round-trips under the prefix, and nothing else is written', async () => {
    await fc.assert(
      fc.asyncProperty(hostile, fc.string({ unit: 'grapheme' }), async (key, value) => {
        await notes.set(key, value);
        expect(await notes.get(key)).toBe(value);
        expect(await bench.admin.get(`${tenant.prefix}notes:${key}`)).toBe(value);
        expect(await notes.del(key)).toBe(1);
      }),
      { numRuns: 200 },
    );
    expect(await bench.admin.keys(`${tenant.prefix}*`)).toEqual([]);
    expect(await bench.admin.get(`${other.prefix}notes:a`)).toBe('theirs');
  });

  it('every key that the server sees in any command carries the prefix', async () => {
    // Of a namespace with a TTL, so that the commands sent behind are there as well.
    const keys = keysOf(manifest, tenant.tenantId, 'drafts');
    const [one, two] = [keys.wire('one'), keys.wire('two')];
    const expected = (name: string): string[] => (takesTwoKeys.has(name) ? [one, two] : [one]);
    for (const [name, command] of Object.entries(COMMANDS)) {
      if (name === 'persist') continue;
      const sent = (command as AnyCommand)(keys, ...CALLS[name as keyof typeof COMMANDS]);
      const [head = '', ...args] = flat(sent.args);
      expect([name, await bench.admin.call('COMMAND', 'GETKEYS', head, ...args)]).toEqual([
        name,
        expected(name),
      ]);
      for (const behind of sent.behind ?? []) {
        const [seen] = (await bench.admin.call('COMMAND', 'GETKEYS', ...flat(behind))) as string[];
        expect(expected(name)).toContain(seen);
      }
      for (const key of [...(sent.makes ?? []), ...(sent.frees ?? []), ...(sent.moves ?? [])])
        expect(expected(name)).toContain(key);
    }
    expect(flat(COMMANDS.persist(keysOf(manifest, tenant.tenantId, 'notes'), 'one').args)).toEqual([
      'PERSIST',
      `${tenant.prefix}notes:one`,
    ]);
  });

  it('the empty key and the longest one are keys; longer ones and half characters are refused', async () => {
    for (const key of ['', 'x'.repeat(MAX_KEY_BYTES), '\r\n', '*', '{}', '💥']) {
      await notes.set(key, 'v');
      expect(await notes.get(key)).toBe('v');
    }
    for (const key of [
      'x'.repeat(MAX_KEY_BYTES + 1),
      'é'.repeat(MAX_KEY_BYTES / 2 + 1),
      '\ud800',
      'a\udc00b',
    ])
      await expect(notes.get(key)).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
  });

  it('what is no string at all, as a query parameter may be, is refused before it is sent', async () => {
    const anything = [undefined, null, 1, {}, ['a', 'b'], Symbol('a'), { toString: () => 'a' }];
    for (const key of anything)
      await expect(notes.get(key as string)).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
    for (const value of [undefined, null, {}, ['a']])
      await expect(notes.set('a', value as string)).rejects.toMatchObject({
        code: 'STATEMENT_REFUSED',
      });
    expect(await notes.get('a')).toBeNull();
    // One that is another name each time that it is read, from a declared one to a hidden one.
    const names = ['notes', 'notes', 'tenantry:quota:few'];
    const shifting = { toString: () => names.shift() ?? 'tenantry:quota:few' };
    for (const name of [shifting, ['notes'], undefined, Symbol('notes')])
      expect(() => redis.namespace(name as string)).toThrow(
        expect.objectContaining({ code: 'STATEMENT_REFUSED' }),
      );
  });

  it('what is too long for one write is refused before it is sent, whole or as the sum of a pipeline', async () => {
    const [longest, large] = ['x'.repeat(2 ** 29 - 100), 'x'.repeat(40 * 2 ** 20)];
    await expect(notes.set('a', longest)).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
    await expect(notes.pipeline().set('a', large).set('b', large).exec()).rejects.toMatchObject({
      code: 'STATEMENT_REFUSED',
    });
    expect(await notes.exists('a', 'b')).toBe(0);
  });

  it('ids of streams are not taken for keys, whatever the object says', async () => {
    let reads = 0;
    const after = new Proxy<Record<string, string>>(
      { a: '0', b: '0', c: '0' },
      { ownKeys: () => (reads++ === 0 ? ['a'] : ['a', 'b', 'c']), get: (_, key) => `id of ${String(key)}` },
    );
    expect(COMMANDS.xread(keysOf(manifest, tenant.tenantId, 'notes'), after).args).toEqual([
      'XREAD',
      'STREAMS',
      `${tenant.prefix}notes:a`,
      'id of a',
    ]);
  });

  it('a key that comes back from elsewhere is a breach, and is not handed out', () => {
    const { wire, plain } = keysOf(manifest, tenant.tenantId, 'notes');
    expect(plain(wire('a'))).toBe('a');
    const { wire: drafts } = keysOf(manifest, tenant.tenantId, 'drafts');
    for (const key of [`${other.prefix}notes:a`, drafts('a'), 'a', ''])
      expect(() => plain(key)).toThrow(expect.objectContaining({ code: 'ISOLATION_BREACH' }));
  });

  it("another tenant's prefix is a part of the own key", async () => {
    await notes.set(`${other.prefix}notes:a`, 'mine');
    expect(await notes.get(`${other.prefix}notes:a`)).toBe('mine');
    expect(await bench.admin.get(`${other.prefix}notes:a`)).toBe('theirs');
    // A pattern is a name like any other.
    await notes.del('*', 'a*', `${other.prefix}*`);
    expect(await notes.get(`${other.prefix}notes:a`)).toBe('mine');
  });
});

type AnyCommand = (of: Keys, ...args: unknown[]) => Sent<unknown>;
type Tail<T extends readonly unknown[]> = T extends readonly [unknown, ...infer Rest] ? Rest : never;

/** A call of each, about the key `one` (and `two`, where it takes several); a new command wants its line here. */
const CALLS: { readonly [N in keyof typeof COMMANDS]: Tail<Parameters<(typeof COMMANDS)[N]>> } = {
  exists: ['one', 'two'],
  type: ['one'],
  del: ['one', 'two'],
  unlink: ['one', 'two'],
  ttl: ['one'],
  pttl: ['one'],
  expire: ['one', 1],
  pexpire: ['one', 1],
  persist: ['one'],
  get: ['one'],
  mget: ['one', 'two'],
  strlen: ['one'],
  set: ['one', 'v', { ex: 1, condition: 'nx' }],
  setex: ['one', 1, 'v'],
  setnx: ['one', 'v'],
  getset: ['one', 'v'],
  mset: [{ one: 'v', two: 'v' }],
  getdel: ['one'],
  getex: ['one', { ex: 1 }],
  append: ['one', 'v'],
  incr: ['one'],
  incrby: ['one', 1],
  incrbyfloat: ['one', 1],
  decr: ['one'],
  decrby: ['one', 1],
  hset: ['one', { f: 'v' }],
  hsetnx: ['one', 'f', 'v'],
  hincrby: ['one', 'f', 1],
  hget: ['one', 'f'],
  hmget: ['one', 'f', 'g'],
  hgetall: ['one'],
  hkeys: ['one'],
  hvals: ['one'],
  hlen: ['one'],
  hexists: ['one', 'f'],
  hdel: ['one', 'f', 'g'],
  lpush: ['one', 'v', 'w'],
  rpush: ['one', 'v', 'w'],
  lpop: ['one'],
  rpop: ['one'],
  lrange: ['one', 0, -1],
  lindex: ['one', 0],
  llen: ['one'],
  lrem: ['one', 1, 'v'],
  lset: ['one', 0, 'v'],
  ltrim: ['one', 0, 1],
  sadd: ['one', 'v', 'w'],
  srem: ['one', 'v', 'w'],
  smembers: ['one'],
  sismember: ['one', 'v'],
  scard: ['one'],
  spop: ['one'],
  srandmember: ['one'],
  zadd: ['one', { v: 1, w: 2 }],
  zincrby: ['one', 1, 'v'],
  zrem: ['one', 'v', 'w'],
  zcard: ['one'],
  zcount: ['one', 0, 1],
  zscore: ['one', 'v'],
  zrank: ['one', 'v'],
  zrange: ['one', 0, 1, { by: 'score', reverse: true, limit: { offset: 0, count: 1 } }],
  zrangeWithScores: ['one', 0, 1],
  zpopmin: ['one'],
  zpopmax: ['one'],
  zremrangebyscore: ['one', 0, 1],
  zremrangebyrank: ['one', 0, 1],
  xadd: ['one', { f: 'v' }, { maxLength: 10 }],
  xlen: ['one'],
  xdel: ['one', '1-1'],
  xrange: ['one', '-', '+', 1],
  xread: [{ one: '0', two: '0' }, 1],
};

const takesTwoKeys = new Set<string>(['exists', 'del', 'unlink', 'mget', 'mset', 'xread']);
