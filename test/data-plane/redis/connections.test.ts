/** Connections that are few, that break, and whose users change. */
import { redisKeyPrefix } from '../../../domain/names.js';
import type { TenantCredentials } from '../../../tenancy/context/cell-servers.js';
import { openLanes } from '../../../tenancy/redis/lanes.js';
import { ensureNamespaces } from '../../../tenancy/redis/namespace.js';
import { encode } from '../../../tenancy/redis/resp.js';
import { openLink } from '../../support/link.js';
import { until } from '../../support/until.js';
import {
  type Bench,
  openBench,
  scopedOf,
  startOwnRedis,
  type TestTenant,
  withoutCredentials,
} from './support.js';

describe('connections to Redis', () => {
  let bench: Bench;
  beforeAll(() => {
    bench = openBench();
  });
  afterAll(() => bench.close());
  const two = async (): Promise<[TestTenant, TestTenant]> => {
    const [a, b] = await bench.tenants(2);
    if (a === undefined || b === undefined) throw new Error('no tenants');
    return [a, b];
  };

  it('a busy tenant gets one of its own, bounded, and the coolest gives way; order is kept throughout', async () => {
    const tenants = await bench.tenants(6);
    const source = bench.source({ sharedConnections: 2, ownConnections: 2, promoteAt: 20 });
    for (const [i, tenant] of tenants.entries()) {
      const notes = scopedOf(source, tenant).namespace('notes');
      // Not awaited one by one: the tenant changes connections in between.
      const numbers = await Promise.all(Array.from({ length: 60 * 2 ** i }, () => notes.incr('n')));
      expect(numbers).toEqual(numbers.map((_, n) => n + 1));
      expect(source.stats().own).toBeLessThanOrEqual(2);
    }
    const { promotions, evictions, own } = source.stats();
    expect([own, promotions > 2, evictions]).toEqual([2, true, promotions - 2]);
    await until('the evicted connections are closed', async () => {
      const list = String(await bench.admin.client('LIST'));
      return (
        list
          .split('\n')
          .filter((line) =>
            tenants.some(({ user }) => line.includes(`user=${user} `) && line.includes('name=tenantry-own')),
          ).length === 2
      );
    });
  });

  it('there are no more of them than allowed, also while those that would give way hang', async () => {
    const [first, second] = await two();
    const link = await openLink(bench.url);
    const source = bench.source({
      servers: { redisUrl: withoutCredentials(link.url) },
      sharedConnections: 2,
      ownConnections: 1,
      promoteAt: 5,
    });
    const use = async (tenant: TestTenant, times: number): Promise<void> => {
      const notes = scopedOf(source, tenant).namespace('notes');
      for (let i = 0; i < times; i++) await notes.get('a');
    };
    try {
      await use(first, 10);
      link.hold();
      const hanging = use(first, 1);
      await use(second, 40);
      const own = String(await bench.admin.client('LIST'))
        .split('\n')
        .filter((line) => line.includes('name=tenantry-own'));
      expect(own.filter((line) => [first, second].some(({ user }) => line.includes(user)))).toHaveLength(1);
      link.cut();
      await hanging;
      await until('the busier one has it', async () => {
        await use(second, 1);
        return source.stats().promotions === 2;
      });
    } finally {
      await source.close();
      await link.close();
    }
  });

  it('one that had nothing to do for long is not taken for one that hangs', async () => {
    const tenant = await bench.tenant();
    const source = bench.source({ commandTimeout: 200 });
    const notes = scopedOf(source, tenant).namespace('notes');
    await notes.incr('n');
    const idleSince = performance.now();
    await until('it has been idle for long', () => performance.now() > idleSince + 300);
    // Answered late enough to be looked at meanwhile, and in time.
    await bench.admin.client('PAUSE', 60);
    expect(await notes.incr('n')).toBe(2);
    expect(source.stats().connects).toBe(1);
  });

  it('a process that stood still reads what was answered meanwhile before it gives anything up', async () => {
    const notes = scopedOf(bench.source({ commandTimeout: 200 }), await bench.tenant()).namespace('notes');
    await notes.set('a', 1);
    const asked = notes.get('a');
    // Behind the turn in which it is written.
    await new Promise(setImmediate);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    expect(await asked).toBe('1');
  });

  it('with its own connection made impossible, a tenant goes on over the shared ones', async () => {
    const own = await startOwnRedis();
    const there = openBench(own.server.url);
    try {
      const tenant = await there.tenant();
      const source = there.source({ sharedConnections: 1, ownConnections: 4, promoteAt: 10 });
      const notes = scopedOf(source, tenant).namespace('notes');
      await notes.set('a', 1);
      // The admin's and the shared one.
      await there.admin.config('SET', 'maxclients', 2);
      for (let i = 0; i < 40; i++) expect(await notes.get('a')).toBe('1');
      await there.admin.config('SET', 'maxclients', 1000);
    } finally {
      await there.close();
      await own.close();
    }
  });

  it('killed connections: reads are sent again, a write whose end is unknown is an outage and never runs twice', async () => {
    const tenants = await bench.tenants(40);
    const source = bench.source({ sharedConnections: 4, ownConnections: 4, promoteAt: 100 });
    const stop = new AbortController();
    const counted = new Map<TestTenant, { said: number; unknown: number }>();
    const wrong: unknown[] = [];
    const mine = tenants.map((tenant) => ({ tenant, notes: scopedOf(source, tenant).namespace('notes') }));
    // Before the first cut, which would be an outage to a write.
    await Promise.all(mine.map(({ tenant, notes }) => notes.set('mine', tenant.tenantId)));
    const work = mine.map(async ({ tenant, notes }) => {
      const count = { said: 0, unknown: 0 };
      counted.set(tenant, count);
      while (!stop.signal.aborted) {
        try {
          await notes.incr('n');
          count.said += 1;
        } catch (error) {
          if ((error as { code?: string }).code === 'STORE_UNAVAILABLE') count.unknown += 1;
          else wrong.push(error);
        }
        const read = await notes.get('mine').catch((error: unknown) => error);
        // A second cut under the same read is told.
        if (read !== tenant.tenantId && (read as { code?: string }).code !== 'STORE_UNAVAILABLE')
          wrong.push(read);
      }
    });
    for (let i = 0; i < 30; i++) {
      const { connects } = source.stats();
      // Another one, where the one that was cut had just been given up.
      await until('there is a new one', async () => {
        await cutOne(bench, tenants);
        return source.stats().connects > connects;
      });
    }
    stop.abort();
    await Promise.all(work);
    expect(wrong).toEqual([]);
    expect(source.stats().connects).toBeGreaterThanOrEqual(34);
    for (const [tenant, { said, unknown }] of counted) {
      const ran = Number(await bench.admin.get(`${tenant.prefix}notes:n`));
      expect(ran).toBeGreaterThanOrEqual(said);
      expect(ran).toBeLessThanOrEqual(said + unknown);
    }
  });

  it('a lost answer: the read is sent again, the write is an outage and has run once', async () => {
    const tenant = await bench.tenant();
    const link = await openLink(bench.url);
    const servers = { redisUrl: withoutCredentials(link.url) };
    const source = bench.source({ servers, sharedConnections: 1, ownConnections: 0 });
    const notes = scopedOf(source, tenant).namespace('notes');
    const ran = () => bench.admin.get(`${tenant.prefix}notes:n`);
    try {
      await notes.set('mine', 'kept');
      link.holdAnswers();
      const write = expect(notes.incr('n')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
      const read = notes.get('mine');
      await until('it has run', async () => (await ran()) === '1');
      link.cut();
      await write;
      expect(await read).toBe('kept');
      expect(await ran()).toBe('1');
    } finally {
      await source.close();
      await link.close();
    }
  });

  it('a rotated password loses no request, on shared connections and on own ones', async () => {
    const [tenant] = await two();
    for (const ownConnections of [0, 4]) {
      const source = bench.source({ ownConnections, promoteAt: 5 });
      const notes = scopedOf(source, tenant).namespace('notes');
      const key = `n${ownConnections}`;
      const stop = new AbortController();
      let ran = 0;
      const other = scopedOf(source, await bench.tenant()).namespace('notes');
      const work = Array.from({ length: 8 }, async () => {
        while (!stop.signal.aborted) {
          await Promise.all([notes.incr(key), other.get('a')]);
          ran += 1;
        }
      });
      const goesOn = async (): Promise<void> => {
        const before = ran;
        await until('requests go on', () => ran > before + 20);
      };
      for (let i = 0; i < 5; i++) {
        await goesOn();
        await bench.rotate(tenant);
      }
      await goesOn();
      stop.abort();
      await Promise.all(work);
      expect(Number(await notes.get(key))).toBe(ran);
    }
    // Cut as well, between two requests: the next ones log in anew.
    const source = bench.source({ promoteAt: 1 });
    const notes = scopedOf(source, tenant).namespace('notes');
    await notes.set('a', 1);
    await bench.rotate(tenant);
    await bench.admin.client('KILL', 'USER', tenant.user);
    await until('the cut was noticed', () => source.stats().connected === 0);
    expect(await Promise.all([notes.incr('a'), notes.incr('a')])).toEqual([2, 3]);
  });

  it('a suspended user is cut and stays out: off and killed, or removed', async () => {
    const [suspended, other] = await two();
    const source = bench.source({ sharedConnections: 1, promoteAt: 5 });
    const notes = scopedOf(source, suspended).namespace('notes');
    const others = scopedOf(source, other).namespace('notes');
    await Promise.all(Array.from({ length: 10 }, () => notes.set('a', 'before')));
    expect(source.stats().own).toBe(1);
    for (const cut of [
      async () => {
        await bench.admin.acl('SETUSER', suspended.user, 'off');
        await bench.admin.client('KILL', 'USER', suspended.user);
      },
      async () => {
        await bench.admin.acl('DELUSER', suspended.user);
      },
    ]) {
      await ensureNamespaces(bench.admin, [suspended]);
      await until('it may come in', () => notes.set('a', 'before').catch(() => undefined));
      await cut();
      const tries = await Promise.allSettled([
        notes.set('a', 'after'),
        notes.get('a'),
        others.get('a'),
        notes.get('a'),
      ]);
      expect(tries.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled', 'rejected']);
      expect(await bench.admin.get(`${suspended.prefix}notes:a`)).toBe('before');
    }
    await ensureNamespaces(bench.admin, [suspended]);
    expect(await until('it may come in', () => notes.get('a').catch(() => undefined))).toBe('before');
  });

  it('a user that is refused with the newest password costs the catalogue a few questions, not one for each request', async () => {
    const tenant = await bench.tenant();
    await bench.admin.acl('DELUSER', tenant.user);
    const notes = scopedOf(bench.source(), tenant).namespace('notes');
    const before = bench.asked.fresh;
    for (let i = 0; i < 20; i++) await Promise.allSettled(Array.from({ length: 20 }, () => notes.get('a')));
    // At most one for each round, and then one for the requests that had met it.
    expect(bench.asked.fresh - before).toBeLessThanOrEqual(40);
  });

  it('a password that cannot be had is told to all who ask, and in time when no answer comes', async () => {
    const tenant = await bench.tenant();
    const passwords: TenantCredentials['get'][] = [
      () => Promise.reject(new Error('the catalogue is away')),
      () => new Promise(() => undefined),
      (id, store) => bench.credentials.get(id, store),
    ];
    const lanes = openLanes({
      url: withoutCredentials(bench.url),
      credentials: { get: (id, store) => (passwords.shift() as TenantCredentials['get'])(id, store) },
      commandTimeout: 200,
    });
    const text = encode(['GET', `${redisKeyPrefix(tenant.tenantId)}notes:nothing`]);
    const ask = (): Promise<unknown> => lanes.send(tenant.tenantId, { text, count: 1, repeatable: true });
    try {
      // The next one comes while the others are being told.
      await expect(ask().catch(ask)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
      expect(await ask()).toEqual([null]);
      expect(lanes.stats().pending).toBe(0);
    } finally {
      lanes.close();
    }
  });

  it('one tenant cannot fill the queue that it shares', async () => {
    const [greedy, modest] = await two();
    const source = bench.source({ maxPending: 1_000, maxPendingPerTenant: 100, ownConnections: 0 });
    const notes = scopedOf(source, greedy).namespace('notes');
    const all = Promise.allSettled(Array.from({ length: 300 }, () => notes.get('a')));
    expect(await scopedOf(source, modest).namespace('notes').get('a')).toBeNull();
    const settled = await all;
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(100);
    expect(settled.at(-1)).toMatchObject({ reason: { code: 'CLIENTS_EXHAUSTED' } });
    expect(source.stats().pending).toBe(0);
  });
});

/** Cuts a connection that one of the tenants is logged in on. */
async function cutOne({ admin }: Bench, tenants: readonly TestTenant[]): Promise<void> {
  const users = new Set(tenants.map(({ user }) => user));
  const clients = String(await admin.client('LIST')).split('\n');
  const theirs = clients.filter((line) => users.has(/ user=(\S+)/.exec(line)?.[1] ?? ''));
  const id = /^id=(\d+)/.exec(theirs[Math.floor(Math.random() * theirs.length)] ?? '')?.[1];
  if (id !== undefined) await admin.client('KILL', 'ID', id);
}
