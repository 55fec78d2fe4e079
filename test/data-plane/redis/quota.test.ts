/** What a namespace may hold. */
import { defineManifest } from '../../../domain/manifest.js';
import type { RedisNamespace, ScopedRedis } from '../../../tenancy/redis/scoped.js';
import { until } from '../../support/until.js';
import { type Bench, manifest, openBench, scopedOf, type TestTenant } from './support.js';

const EXCEEDED = { code: 'QUOTA_EXCEEDED' };

describe('quotas', () => {
  let bench: Bench;
  let tenant: TestTenant;
  let redis: ScopedRedis;
  beforeAll(() => {
    bench = openBench();
  });
  beforeEach(async () => {
    tenant = await bench.tenant();
    redis = scopedOf(bench.source(), tenant);
  });
  afterAll(() => bench.close());
  const keysIn = async (namespace: string): Promise<number> =>
    (await bench.admin.keys(`${tenant.prefix}${namespace}:*`)).length;

  it('so many keys and no more, whatever makes them; those that are there can be written', async () => {
    const few = redis.namespace('few');
    await few.set('a', 1);
    await few.hset('b', { f: 1 });
    await few.rpush('c', 1);
    await expect(few.set('d', 1)).rejects.toMatchObject(EXCEEDED);
    await expect(few.sadd('d', 1)).rejects.toMatchObject(EXCEEDED);
    await expect(few.pipeline().set('a', 2).incr('d').exec()).rejects.toMatchObject(EXCEEDED);
    expect([await few.get('a'), await few.exists('d')]).toEqual(['1', 0]);
    await few.set('a', 2);
    await few.del('b');
    await few.set('d', 1);
    await expect(few.set('e', 1)).rejects.toMatchObject(EXCEEDED);
    expect(await few.getdel('d')).toBe('1');
    await few.multi().set('e', 1).get('e').exec();
  });

  it('callers at once never get past it', async () => {
    const few = redis.namespace('few');
    const made = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => few.set(`k${i}`, 1)));
    expect(made.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(3);
    for (let i = 0; i < 5; i++) await few.set(`then ${i}`, 1).catch(() => undefined);
    const there = await few.exists(
      ...Array.from({ length: 20 }, (_, i) => `k${i}`),
      ...Array.from({ length: 5 }, (_, i) => `then ${i}`),
    );
    expect(there).toBe(3);
  });

  it('a key that ended leaves room: by its TTL, or emptied', async () => {
    const fleeting = redis.namespace('fleeting');
    await fleeting.set('a', 1, { px: 2_000 });
    await fleeting.rpush('list', 1);
    await expect(fleeting.set('b', 1)).rejects.toMatchObject(EXCEEDED);
    await until('it ended', async () => (await fleeting.exists('a')) === 0);
    await until('there is room', () => fleeting.set('b', 1).catch(() => undefined));
    await fleeting.lpop('list');
    await fleeting.set('c', 1);
    await expect(fleeting.set('d', 1)).rejects.toMatchObject(EXCEEDED);
    // One whose end is put off is counted on.
    const first = Date.now() + 500;
    await fleeting.pipeline().pexpire('b', 500).expire('b', 90).exec();
    await until('its first end is past', () => Date.now() > first + 10);
    await expect(fleeting.set('d', 1)).rejects.toMatchObject(EXCEEDED);
  });

  it('a key that is removed and made again is counted: in a transaction, a pipeline, by callers at once', async () => {
    const few = redis.namespace('few');
    for (let i = 0; i < 10; i++)
      await Promise.allSettled([
        few.multi().del(`m${i}`).set(`m${i}`, 1).exec(),
        few.pipeline().unlink(`p${i}`).incr(`p${i}`).exec(),
        few.set(`c${i}`, 1),
        few.del(`c${i}`),
      ]);
    expect(await keysIn('few')).toBe(3);
  });

  it('processes that make and remove the same keys at once never get past it', async () => {
    const processes = Array.from({ length: 4 }, () => scopedOf(bench.source(), tenant).namespace('few'));
    for (let round = 0; round < 20; round++) {
      await Promise.allSettled(
        processes.flatMap((few) =>
          Array.from({ length: 5 }, (_, i) => [
            few.set(`${round} ${i}`, 1),
            few.del(`${round} ${i}`),
            few.rpush(`${round} ${i}`, 1),
          ]).flat(),
        ),
      );
      expect(await keysIn('few')).toBeLessThanOrEqual(3);
      for (let i = 0; i < 5; i++) await processes[0]?.del(`${round} ${i}`);
    }
    for (const key of ['a', 'b', 'c']) await processes[0]?.set(key, 1);
    await expect(processes[1]?.set('d', 1)).rejects.toMatchObject(EXCEEDED);
  });

  it('a key that GETDEL refused to remove is counted on', async () => {
    const few = redis.namespace('few');
    for (const key of ['a', 'b', 'c']) {
      await few.rpush(key, 1);
      await expect(few.getdel(key)).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    }
    await expect(few.set('d', 1)).rejects.toMatchObject(EXCEEDED);
    expect(await few.pipeline().getdel('a').getdel('none').exec()).toMatchObject([
      [{ code: 'STORE_REFUSED' }, undefined],
      [null, null],
    ]);
    await expect(few.set('d', 1)).rejects.toMatchObject(EXCEEDED);
  });

  it('a process whose clock is ahead does not take for ended what is there', async () => {
    const fleeting = redis.namespace('fleeting');
    await fleeting.set('a', 1, { px: 4_000 });
    await fleeting.set('b', 1, { px: 4_000 });
    const now = Date.now.bind(Date);
    const ahead = jest.spyOn(Date, 'now').mockImplementation(() => now() + 5_000);
    try {
      await expect(fleeting.set('c', 1)).rejects.toMatchObject(EXCEEDED);
    } finally {
      ahead.mockRestore();
    }
  });

  it('a write that was refused leaves its place to the next one', async () => {
    const few = redis.namespace('few');
    await few.set('a', 1);
    for (let i = 0; i < 10; i++)
      await expect(few.hset('a', { f: 1 })).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    for (let i = 0; i < 10; i++) expect(await few.set(`none ${i}`, 1, { condition: 'xx' })).toBeNull();
    await few.set('b', 1);
    await few.set('c', 1);
    expect(await keysIn('few')).toBe(3);
  });

  it('bytes: callers at once do not each have all of the room', async () => {
    const small = redis.namespace('small');
    const made = await Promise.allSettled(
      Array.from({ length: 100 }, (_, i) => small.set(`k${i}`, 'x'.repeat(1_000))),
    );
    expect(made.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(9);
    expect(await keysIn('small')).toBeLessThanOrEqual(9);
  });

  it('bytes: an element is not replaced by one that has no room', async () => {
    const small = redis.namespace('small');
    await small.rpush('list', 'a');
    await expect(small.lset('list', 0, 'x'.repeat(10_001))).rejects.toMatchObject(EXCEEDED);
    expect(await small.lset('list', 0, 'b')).toBe('OK');
  });

  it('bytes: about so many', async () => {
    const small = redis.namespace('small');
    await expect(small.set('huge', 'x'.repeat(10_001))).rejects.toMatchObject(EXCEEDED);
    let written = 0;
    for (; written < 100; written++) {
      const done = await small.set(`k${written}`, 'x'.repeat(1_000)).then(
        () => true,
        () => false,
      );
      if (!done) break;
    }
    expect(written).toBeGreaterThanOrEqual(6);
    expect(written).toBeLessThanOrEqual(9);
    await small.del('k0', 'k1', 'k2');
    await until('there is room', () => small.set('again', 'x'.repeat(1_000)).catch(() => undefined));
  });

  describe('of one key with many elements', () => {
    const LIMIT = 1_000_000;
    const limited = defineManifest({ ...manifest, redis: { namespaces: { large: { maxBytes: LIMIT } } } });
    let large: RedisNamespace;
    beforeEach(() => {
      large = scopedOf(bench.source({ manifest: limited }), tenant).namespace('large');
    });
    const push = async (): Promise<boolean> => {
      await new Promise((resolve) => setTimeout(resolve, 25));
      return large.rpush('list', 'y'.repeat(100_000)).then(
        () => true,
        () => false,
      );
    };
    const weight = async (): Promise<number> =>
      Number(await bench.admin.call('MEMORY', 'USAGE', `${tenant.prefix}large:list`, 'SAMPLES', '0'));

    it('bytes: all are looked at, not the first few', async () => {
      // Each second one has a node of its own, and then they are all small.
      for (let i = 0; i < 12; i++) await large.rpush('list', i % 2 === 0 ? 's' : 'L'.repeat(9_000));
      for (let i = 1; i < 12; i += 2) await large.lset('list', i, 's');
      for (let i = 0; i < 40; i++) await push();
      expect(await push()).toBe(false);
      expect(await weight()).toBeLessThan(LIMIT * 1.2);
      await large.del('list');
      await until('there is room', push);
    });

    it('bytes: one that was once found too large is not missed among many small ones', async () => {
      await large.mset(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k${i}`, 1])));
      for (let i = 0; i < 100; i++) await push();
      const last = [];
      for (let i = 0; i < 20; i++) last.push(await push());
      expect(last).toEqual(last.map(() => false));
      await large.del('list');
      await until('there is room', push);
    });
  });

  it('of one tenant are not those of another', async () => {
    const other = scopedOf(bench.source(), await bench.tenant());
    for (const one of [redis, other])
      for (const key of ['a', 'b', 'c']) await one.namespace('few').set(key, 1);
  });
});
