/** What a namespace may hold. */
import type { ScopedRedis } from '../../../tenancy/redis/scoped.js';
import { until } from '../../support/until.js';
import { type Bench, openBench, scopedOf } from './support.js';

const EXCEEDED = { code: 'QUOTA_EXCEEDED' };

describe('quotas', () => {
  let bench: Bench;
  let redis: ScopedRedis;
  beforeAll(() => {
    bench = openBench();
  });
  beforeEach(async () => {
    redis = scopedOf(bench.source(), await bench.tenant());
  });
  afterAll(() => bench.close());

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

  it('of one tenant are not those of another', async () => {
    const other = scopedOf(bench.source(), await bench.tenant());
    for (const one of [redis, other])
      for (const key of ['a', 'b', 'c']) await one.namespace('few').set(key, 1);
  });
});
