/** A value that is missing is made once, whoever asks, and is nobody else's. */
import { type Cache, type CacheOptions, createCache } from '../../../tenancy/redis/cache.js';
import type { ScopedRedis } from '../../../tenancy/redis/scoped.js';
import { until } from '../../support/until.js';
import { type Bench, openBench, scopedOf, startOwnRedis, type TestTenant } from './support.js';

describe('the cache', () => {
  let bench: Bench;
  beforeAll(() => {
    bench = openBench();
  });
  afterAll(() => bench.close());

  /** As in a process of its own: with its own connections and its own knowledge of what is being loaded. */
  const cacheOf = (tenant: TestTenant, options: CacheOptions = {}): Cache => {
    const redis = scopedOf(bench.source(), tenant);
    return createCache({ redis: () => redis, ...options });
  };
  const valueKey = ({ prefix }: TestTenant, key: string): string => `${prefix}cache:v:${key}`;
  const lockKey = ({ prefix }: TestTenant, key: string): string => `${prefix}cache:l:${key}`;

  it('many callers in three processes: one load, and all have what it made', async () => {
    const tenant = await bench.tenant();
    const caches = [cacheOf(tenant), cacheOf(tenant), cacheOf(tenant)];
    const loader = gate({ n: 1 });
    const asked = caches.flatMap((cache) =>
      Array.from({ length: 50 }, () => cache.getOrSet('a', loader.load)),
    );
    await loader.begun;
    loader.open();
    const answers = await Promise.all(asked);
    expect(answers).toEqual(answers.map(() => ({ n: 1 })));
    expect(loader.loads()).toBe(1);
    expect(await bench.admin.exists(lockKey(tenant, 'a'))).toBe(0);
    // Each has a copy of its own.
    const [one, two] = answers;
    expect(one).not.toBe(two);
  });

  it('two tenants with the same key do not meet, through one cache for all', async () => {
    const [one, two] = await bench.tenants(2);
    if (one === undefined || two === undefined) throw new Error('no tenants');
    const source = bench.source();
    let current: ScopedRedis = scopedOf(source, one);
    const cache = createCache({ redis: () => current });
    const loaders = [gate('of one'), gate('of two')] as const;
    const first = cache.getOrSet('a', loaders[0].load);
    current = scopedOf(source, two);
    const second = cache.getOrSet('a', loaders[1].load);
    await Promise.all(loaders.map(({ begun }) => begun));
    for (const { open } of loaders) open();
    expect(await Promise.all([first, second])).toEqual(['of one', 'of two']);
    expect(await cache.get('a')).toBe('of two');
    await cache.delete('a');
    expect(await bench.admin.get(valueKey(one, 'a'))).toBe('"of one"');
    expect(await bench.admin.exists(valueKey(two, 'a'))).toBe(0);
  });

  it("a handle that says it is another tenant's joins none of their loads", async () => {
    const [mine, theirs] = await bench.tenants(2);
    if (mine === undefined || theirs === undefined) throw new Error('no tenants');
    const source = bench.source();
    const handle = scopedOf(source, mine);
    let current: ScopedRedis = scopedOf(source, theirs);
    const cache = createCache({ redis: () => current });
    const loader = gate('of theirs');
    const loading = cache.getOrSet('a', loader.load);
    await loader.begun;
    current = { ...handle, tenantId: theirs.tenantId };
    expect(await cache.getOrSet('a', () => 'of mine')).toBe('of mine');
    loader.open();
    expect(await loading).toBe('of theirs');
  });

  it("a loader's failure reaches all who wait, and is not kept", async () => {
    const cache = cacheOf(await bench.tenant());
    const failure = new Error('no such customer');
    const failing = gate<string>(failure);
    const asked = Promise.allSettled([
      cache.getOrSet('a', failing.load),
      cache.getOrSet('a', failing.load),
      cache.getOrSet('a', failing.load),
    ]);
    await failing.begun;
    failing.open();
    expect(await asked).toEqual(Array.from({ length: 3 }, () => ({ status: 'rejected', reason: failure })));
    expect(failing.loads()).toBe(1);
    expect(await cache.getOrSet('a', () => 'there')).toBe('there');
  });

  it('a holder of the lock that died is waited for as long as its lease, and then somebody loads', async () => {
    const tenant = await bench.tenant();
    await bench.admin.set(lockKey(tenant, 'a'), 'of a process that is gone', 'PX', 300);
    const loader = gate('made');
    loader.open();
    const caches = [cacheOf(tenant), cacheOf(tenant)];
    expect(await Promise.all(caches.map((cache) => cache.getOrSet('a', loader.load)))).toEqual([
      'made',
      'made',
    ]);
    expect(loader.loads()).toBe(1);
    expect(await bench.admin.get(valueKey(tenant, 'a'))).toBe('"made"');
  });

  it('a lock that never ends is not waited for longer than that', async () => {
    const tenant = await bench.tenant();
    await bench.admin.set(lockKey(tenant, 'a'), 'of somebody');
    expect(await cacheOf(tenant, { lockMs: 100 }).getOrSet('a', () => 'made')).toBe('made');
    // Its lock, its value.
    expect(await bench.admin.get(lockKey(tenant, 'a'))).toBe('of somebody');
  });

  it.each([
    ['removed', (cache: Cache) => cache.delete('a'), undefined],
    ['set', (cache: Cache) => cache.set('a', 'newer'), 'newer'],
  ] as const)('what is %s while it is loaded is not overwritten by the load', async (_, change, after) => {
    const tenant = await bench.tenant();
    const [cache, elsewhere] = [cacheOf(tenant), cacheOf(tenant)];
    const loader = gate('older');
    const asked = cache.getOrSet('a', loader.load);
    await loader.begun;
    await change(elsewhere);
    loader.open();
    expect(await asked).toBe('older');
    expect(await cache.get('a')).toBe(after);
  });

  it('lives as long as asked, and no longer than the manifest allows', async () => {
    const tenant = await bench.tenant();
    const endOf = (namespace: string, key: string): Promise<number> =>
      bench.admin.pttl(`${tenant.prefix}${namespace}:v:${key}`);
    const drafts = cacheOf(tenant, { namespace: 'drafts' });
    await drafts.getOrSet('a', () => 1);
    await drafts.getOrSet('b', () => 1, { ttlSeconds: 10 });
    await drafts.getOrSet('c', () => 1, { ttlSeconds: 1_000 });
    const notes = cacheOf(tenant, { namespace: 'notes' });
    await notes.getOrSet('a', () => 1);
    const ends = await Promise.all([
      endOf('drafts', 'a'),
      endOf('drafts', 'b'),
      endOf('drafts', 'c'),
      endOf('notes', 'a'),
    ]);
    expect(ends.map((end) => Math.ceil(end / 10_000))).toEqual([10, 1, 10, 30]);
    const soon = cacheOf(tenant, { ttlSeconds: 0.05 });
    await soon.getOrSet('a', () => 1);
    await until('it ended', async () => (await soon.get('a')) === undefined);
    expect(await soon.getOrSet('a', () => 2)).toBe(2);
  });

  it('too large, undefined, or without room: answered, not kept, and the lock is free again', async () => {
    const tenant = await bench.tenant();
    const cache = cacheOf(tenant, { maxBytes: 100 });
    expect(await cache.getOrSet('large', () => 'x'.repeat(99))).toHaveLength(99);
    expect(await cache.getOrSet('none', () => undefined)).toBeUndefined();
    expect(await bench.admin.keys(`${tenant.prefix}cache:*`)).toEqual([]);
    // Three keys, and no more: two values fill it, for a lock has to fit as well.
    const few = cacheOf(tenant, { namespace: 'few' });
    for (let i = 0; i < 5; i++) expect(await few.getOrSet(`k${i}`, () => i)).toBe(i);
    expect((await bench.admin.keys(`${tenant.prefix}few:*`)).every((key) => key.includes(':v:'))).toBe(true);
  });

  it('of a tenant that may only read: what is there is read, the rest is loaded', async () => {
    const tenant = await bench.tenant();
    await cacheOf(tenant).set('a', 'kept');
    const redis = bench.source().forTenant({ tenantId: tenant.tenantId, mode: 'read-only' });
    const cache = createCache({ redis: () => redis });
    expect(await cache.getOrSet('a', () => 'loaded')).toBe('kept');
    expect(await cache.getOrSet('b', () => 'loaded')).toBe('loaded');
    expect(await cache.get('b')).toBeUndefined();
  });

  it('a key that is no string is refused: any two objects would be the same one', async () => {
    const cache = cacheOf(await bench.tenant());
    const anything: unknown[] = [{ id: 1 }, { id: 2 }, ['a'], undefined, null, 1];
    for (const key of anything) {
      const refused = { code: 'STATEMENT_REFUSED' };
      await expect(cache.getOrSet(key as string, () => 1)).rejects.toMatchObject(refused);
      await expect(cache.set(key as string, 1)).rejects.toMatchObject(refused);
      await expect(cache.get(key as string)).rejects.toMatchObject(refused);
      await expect(cache.delete(key as string)).rejects.toMatchObject(refused);
    }
  });

  it('takes no option that is not a number above 0', async () => {
    for (const odd of ['100', Number.NaN, 0, -1] as number[]) {
      for (const name of ['lockMs', 'maxBytes', 'maxLoads', 'ttlSeconds'])
        expect(() => createCache({ [name]: odd })).toThrow(RangeError);
      const cache = cacheOf(await bench.tenant());
      const asked = cache.getOrSet('a', () => 1, { ttlSeconds: odd });
      await expect(asked).rejects.toThrow(RangeError);
    }
  });

  it('loads at once are bounded', async () => {
    const cache = cacheOf(await bench.tenant(), { maxLoads: 2 });
    const loader = gate('made');
    const asked = Promise.all([cache.getOrSet('a', loader.load), cache.getOrSet('b', loader.load)]);
    await until('both are loaded', () => loader.loads() === 2);
    await expect(cache.getOrSet('c', loader.load)).rejects.toMatchObject({ code: 'CLIENTS_EXHAUSTED' });
    const third = cache.getOrSet('a', loader.load);
    loader.open();
    expect(await asked).toEqual(['made', 'made']);
    expect(await third).toBe('made');
  });

  it('a loader that hangs holds up others no longer than its lock, and is counted until it ends', async () => {
    // As long as a machine with other work may stand still: a load that takes longer than its lock is one more.
    const cache = cacheOf(await bench.tenant(), { lockMs: 500, maxLoads: 2 });
    const hanging = gate('late');
    const loader = gate('made');
    loader.open();
    const first = cache.getOrSet('a', hanging.load);
    await hanging.begun;
    const others = Array.from({ length: 20 }, () => cache.getOrSet('a', loader.load));
    expect(await Promise.all(others)).toEqual(others.map(() => 'made'));
    expect(loader.loads()).toBe(1);

    const second = cache.getOrSet('b', hanging.load);
    await until('both hang', () => hanging.loads() === 2);
    await expect(cache.getOrSet('c', loader.load)).rejects.toMatchObject({ code: 'CLIENTS_EXHAUSTED' });
    hanging.open();
    expect(await Promise.all([first, second])).toEqual(['late', 'late']);
    // What came too late is not kept in the place of what was made meanwhile.
    expect(await cache.get('a')).toBe('made');
    expect(await cache.getOrSet('c', loader.load)).toBe('made');
  });

  it('with Redis away the loader is asked, once for all who ask at the same time', async () => {
    const own = await startOwnRedis();
    const there = openBench(own.server.url);
    try {
      const redis = scopedOf(there.source(), await there.tenant());
      const cache = createCache({ redis: () => redis });
      await cache.set('a', 'kept');
      await own.server.kill();
      const loader = gate('loaded');
      const asked = Promise.all([cache.getOrSet('a', loader.load), cache.getOrSet('a', loader.load)]);
      await loader.begun;
      loader.open();
      expect(await asked).toEqual(['loaded', 'loaded']);
      expect(loader.loads()).toBe(1);
    } finally {
      await own.server.start();
      await there.close();
      await own.close();
    }
  });
});

/** A loader that waits until it is let go, and then gives the value, or fails with it. */
function gate<T>(value: T | Error): {
  load(): Promise<T>;
  open(): void;
  loads(): number;
  readonly begun: Promise<void>;
} {
  let loads = 0;
  const [begin, opened] = [signal(), signal()];
  return {
    async load() {
      loads += 1;
      begin.give();
      await opened.given;
      if (value instanceof Error) throw value;
      return value;
    },
    open: opened.give,
    loads: () => loads,
    begun: begin.given,
  };
}

function signal(): { give(): void; readonly given: Promise<void> } {
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { give, given };
}
