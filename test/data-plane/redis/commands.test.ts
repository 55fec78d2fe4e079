/** What a tenant's code can do with its namespaces. */
import { trappedSignal } from '../../support/trapped-signal.js';
import { manifest, openBench, scopedOf, startOwnRedis, type Bench } from './support.js';
import type { RedisNamespace, ScopedRedis, ScopedRedisSource } from '../../../tenancy/redis/scoped.js';

describe('a tenant at its keys', () => {
  let bench: Bench;
  let source: ScopedRedisSource;
  let redis: ScopedRedis;
  let prefix: string;
  let notes: RedisNamespace;
  beforeAll(() => {
    bench = openBench();
    source = bench.source();
  });
  beforeEach(async () => {
    const tenant = await bench.tenant();
    prefix = tenant.prefix;
    redis = scopedOf(source, tenant);
    notes = redis.namespace('notes');
  });
  afterAll(() => bench.close());

  it('writes and reads a key that carries its prefix on the server', async () => {
    expect(await notes.set('a', 'one')).toBe('OK');
    expect(await notes.get('a')).toBe('one');
    expect(await bench.admin.get(`${prefix}notes:a`)).toBe('one');
  });

  it('strings', async () => {
    expect(await notes.mset({ a: '1', b: 2 })).toBe('OK');
    expect(await notes.mget('a', 'b', 'c')).toEqual(['1', '2', null]);
    expect(await notes.incr('a')).toBe(2);
    expect(await notes.incrby('a', 40)).toBe(42);
    expect(await notes.decr('a')).toBe(41);
    expect(await notes.incrbyfloat('a', 0.5)).toBe(41.5);
    expect(await notes.append('b', 'x')).toBe(2);
    expect(await notes.strlen('b')).toBe(2);
    expect(await notes.getset('b', 'new')).toBe('2x');
    expect(await notes.setnx('b', 'newer')).toBe(0);
    expect(await notes.setnx('c', 'first')).toBe(1);
    expect(await notes.set('b', 'v', { condition: 'nx' })).toBeNull();
    expect(await notes.set('d', 'v', { condition: 'xx' })).toBeNull();
    expect(await notes.getdel('c')).toBe('first');
    expect(await notes.exists('a', 'b', 'c')).toBe(2);
    expect(await notes.type('a')).toBe('string');
    expect(await notes.unlink('a')).toBe(1);
    expect(await notes.del('b', 'nothing')).toBe(1);
  });

  it('ends of keys', async () => {
    await notes.set('a', '1', { ex: 50 });
    expect(await notes.ttl('a')).toBeGreaterThan(45);
    expect(await notes.persist('a')).toBe(1);
    expect(await notes.ttl('a')).toBe(-1);
    expect(await notes.expire('a', 10)).toBe(1);
    expect(await notes.pexpire('a', 5_000)).toBe(1);
    expect(await notes.pttl('a')).toBeLessThanOrEqual(5_000);
    expect(await notes.getex('a', { ex: 100 })).toBe('1');
    expect(await notes.ttl('a')).toBeGreaterThan(90);
    await notes.setex('b', 7, 'x');
    expect(await notes.ttl('b')).toBeLessThanOrEqual(7);
  });

  it('hashes, lists, sets, sorted sets', async () => {
    expect(await notes.hset('h', { a: 1, b: 'two' })).toBe(2);
    expect(await notes.hgetall('h')).toEqual({ a: '1', b: 'two' });
    expect(await notes.hmget('h', 'a', 'z')).toEqual(['1', null]);
    expect(await notes.hincrby('h', 'a', 4)).toBe(5);
    expect(await notes.hdel('h', 'a')).toBe(1);
    expect([await notes.hkeys('h'), await notes.hlen('h'), await notes.hexists('h', 'a')]).toEqual([
      ['b'],
      1,
      0,
    ]);

    expect(await notes.rpush('l', 'a', 'b', 'c')).toBe(3);
    expect(await notes.lpop('l')).toBe('a');
    expect(await notes.lrange('l', 0, -1)).toEqual(['b', 'c']);
    expect(await notes.ltrim('l', 0, 0)).toBe('OK');
    expect(await notes.llen('l')).toBe(1);

    expect(await notes.sadd('s', 'x', 'y')).toBe(2);
    expect((await notes.smembers('s')).toSorted()).toEqual(['x', 'y']);
    expect(await notes.sismember('s', 'x')).toBe(1);
    expect(await notes.srem('s', 'x')).toBe(1);

    expect(await notes.zadd('z', { a: 1, b: 2.5, c: Number.POSITIVE_INFINITY })).toBe(3);
    expect(await notes.zrangeWithScores('z', 0, 1)).toEqual([
      { member: 'a', score: 1 },
      { member: 'b', score: 2.5 },
    ]);
    expect(await notes.zrange('z', '(1', '+inf', { by: 'score', limit: { offset: 0, count: 1 } })).toEqual([
      'b',
    ]);
    expect([await notes.zscore('z', 'b'), await notes.zrank('z', 'q')]).toEqual([2.5, null]);
    expect(await notes.zincrby('z', 2, 'a')).toBe(3);
    expect(await notes.zpopmin('z')).toEqual([{ member: 'b', score: 2.5 }]);
  });

  it('streams, whose names come back as they were given', async () => {
    await notes.xadd('s', { kind: 'made', by: 1 }, { id: '1-1' });
    await notes.xadd('s', { kind: 'read' }, { id: '2-1', maxLength: 100 });
    expect(await notes.xlen('s')).toBe(2);
    expect(await notes.xrange('s', '-', '+', 1)).toEqual([{ id: '1-1', fields: { kind: 'made', by: '1' } }]);
    expect(await notes.xread({ s: '1-1', none: '0' })).toEqual([
      { key: 's', entries: [{ id: '2-1', fields: { kind: 'read' } }] },
    ]);
    expect(await notes.xread({ s: '2-1' })).toEqual([]);
    expect(await notes.xdel('s', '1-1')).toBe(1);
  });

  it('a pipeline has a result for each command, a transaction runs as one', async () => {
    await notes.set('text', 'x');
    const [first, second, third] = await notes.pipeline().set('a', 1).incr('text').get('a').exec();
    expect(first).toEqual([null, 'OK']);
    expect(second[0]).toMatchObject({ code: 'STORE_REFUSED' });
    expect(third).toEqual([null, '1']);

    const results = await notes.multi().incr('n').rpush('l', 'a').lrange('l', 0, -1).exec();
    expect(results).toEqual([
      [null, 1],
      [null, 1],
      [null, ['a']],
    ]);
    expect(await notes.pipeline().exec()).toEqual([]);
  });

  it('a reply of any size comes whole', async () => {
    const long = 'é'.repeat(700_000);
    const many = Array.from({ length: 50_000 }, (_, i) => `item ${i}`);
    await notes.set('long', long);
    await notes.rpush('many', ...many);
    const [got, list, empty] = await Promise.all([
      notes.get('long'),
      notes.lrange('many', 0, -1),
      notes.get('none'),
    ]);
    expect(got === long).toBe(true);
    expect(list).toEqual(many);
    expect(empty).toBeNull();
  });

  it('a value longer than a string can be is refused to who asks for it, and nobody else notices', async () => {
    // Of its own: a server that makes and copies so much answers nobody else for a second or more.
    const own = await startOwnRedis();
    const there = openBench(own.server.url);
    try {
      const [one, other] = await there.tenants(2);
      if (one === undefined || other === undefined) throw new Error('no tenants');
      const shared = there.source({ sharedConnections: 1, ownConnections: 0, commandTimeout: 40_000 });
      const [large, others] = [one, other].map((of) => scopedOf(shared, of).namespace('notes'));
      // The most that Redis keeps: 512 MiB, 24 more than a string may have.
      await there.admin.setrange(`${one.prefix}notes:large`, 2 ** 29 - 1, 'x');
      const [got, list, count] = await Promise.allSettled([
        large?.get('large'),
        large?.mget('large', 'none'),
        others?.incr('n'),
      ]);
      expect(got).toMatchObject({ reason: { code: 'STORE_REFUSED' } });
      expect(list).toMatchObject({ reason: { code: 'STORE_REFUSED' } });
      expect(count).toEqual({ status: 'fulfilled', value: 1 });
      expect(shared.stats().connects).toBe(1);
    } finally {
      await there.close();
      await own.close();
    }
  });

  it("what the server refuses is a STORE_REFUSED with the server's word and no more", async () => {
    await notes.set('text', 'secret');
    await expect(notes.incr('text')).rejects.toMatchObject({
      code: 'STORE_REFUSED',
      params: { reason: 'ERR' },
    });
    await expect(notes.hset('text', { a: 1 })).rejects.toMatchObject({ params: { reason: 'WRONGTYPE' } });
  });

  it('a namespace with a TTL gives it to every key, whatever writes it, and never a longer one', async () => {
    const drafts = redis.namespace('drafts');
    const long = { ex: 5_000 };
    await Promise.all([
      drafts.set('set', 1),
      drafts.set('longer', 1, long),
      drafts.set('shorter', 1, { ex: 10 }),
      drafts.set('kept', 1, { keepTtl: true }),
      drafts.mset({ mset: 1 }),
      drafts.incr('incr'),
      drafts.hset('hash', { a: 1 }),
      drafts.rpush('list', 1),
      drafts.sadd('set-type', 1),
      drafts.zadd('sorted', { a: 1 }),
      drafts.xadd('stream', { a: 1 }),
      drafts.setnx('setnx', 1),
      drafts.append('append', 'x'),
      drafts.multi().incr('in-multi').exec(),
    ]);
    await drafts.expire('incr', 9_000);
    await drafts.set('getex', 1, { ex: 10 });
    await drafts.getex('getex', long);
    const names = await bench.admin.keys(`${prefix}drafts:*`);
    expect(names).toHaveLength(15);
    for (const name of names) {
      const left = await bench.admin.ttl(name);
      expect([name, left > 0 && left <= (name.endsWith(':shorter') ? 10 : 100)]).toEqual([name, true]);
    }
    // Written to again, a key is not kept longer: its TTL counts from when it was made.
    await drafts.expire('list', 5);
    await drafts.rpush('list', 2);
    expect(await drafts.ttl('list')).toBeLessThanOrEqual(5);
    await expect(drafts.persist('list')).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
  });

  it('what lives for no number of milliseconds is refused, also where the namespace would end it', async () => {
    const drafts = redis.namespace('drafts');
    for (const time of ['1000', Number.NaN, Number.POSITIVE_INFINITY] as unknown as number[])
      for (const work of [
        () => notes.set('a', 1, { px: time }),
        () => drafts.set('a', 1, { px: time }),
        () => notes.pexpire('a', time),
        () => notes.getex('a', { px: time }),
        () => notes.setex('a', Number.NaN, 1),
      ])
        await expect((async () => work())()).rejects.toMatchObject({ code: 'STATEMENT_REFUSED' });
    expect(await notes.exists('a')).toBe(0);
  });

  it('session, cache and rate are there without being declared; others and hidden names are not', async () => {
    const bare = bench.source({ manifest: { ...manifest, redis: { namespaces: {} } } });
    const tenant = await bench.tenant();
    const scoped = scopedOf(bare, tenant);
    for (const name of ['session', 'cache', 'rate']) await scoped.namespace(name).set('a', 1);
    for (const name of [
      'notes',
      'tenantry',
      '',
      'constructor',
      '__proto__',
      'toString',
      'cache:x',
      'cache\n',
    ])
      expect(() => scoped.namespace(name)).toThrow(expect.objectContaining({ code: 'STATEMENT_REFUSED' }));
  });

  it('a tenant that may only read cannot write', async () => {
    const tenant = await bench.tenant();
    await scopedOf(source, tenant).namespace('notes').set('a', 1);
    const readOnly = source.forTenant({ tenantId: tenant.tenantId, mode: 'read-only' }).namespace('notes');
    expect(await readOnly.get('a')).toBe('1');
    await expect(readOnly.set('a', 2)).rejects.toMatchObject({ code: 'TENANT_SUSPENDED' });
    await expect(readOnly.pipeline().get('a').del('a').exec()).rejects.toMatchObject({
      code: 'TENANT_SUSPENDED',
    });
    expect(await readOnly.get('a')).toBe('1');
  });

  it('an aborted command is given up, and an unsent one never runs', async () => {
    const controller = new AbortController();
    const abortable = redis.withSignal(controller.signal).namespace('notes');
    const never = abortable.set('never', 1);
    controller.abort(new Error('enough'));
    await expect(never).rejects.toThrow('enough');
    await expect(abortable.get('a')).rejects.toThrow('enough');
    expect(await notes.get('never')).toBeNull();
    expect(source.stats().pending).toBe(0);
  });

  it('a signal whose own methods throw is a signal like another, and leaves nothing counted', async () => {
    const { signal, abort } = trappedSignal();
    const abortable = redis.withSignal(signal).namespace('notes');
    await abortable.set('trapped', 1);
    expect(await abortable.get('trapped')).toBe('1');
    const never = abortable.set('trapped', 2);
    abort(new Error('enough'));
    await expect(never).rejects.toThrow('enough');
    expect(await notes.get('trapped')).toBe('1');
    expect(source.stats().pending).toBe(0);
  });

  it('what only looks like a signal is none, and nothing waits for it', async () => {
    const like = { aborted: false, throwIfAborted: () => undefined };
    const refused = expect.objectContaining({ code: 'STATEMENT_REFUSED' });
    for (const signal of [null, undefined, like, Object.create(AbortSignal.prototype)]) {
      const work = async (): Promise<unknown> =>
        redis
          .withSignal(signal as AbortSignal)
          .namespace('notes')
          .get('a');
      await expect(work()).rejects.toEqual(refused);
    }
    expect(source.stats().pending).toBe(0);
  });
});
