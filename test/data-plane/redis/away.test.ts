/** A Redis that is killed, becomes a replica, takes no writes, hangs or is slow: what its callers hear, and when. */
import { randomUUID } from 'node:crypto';
import type { RunningServer } from '../../../local/server.js';
import { Lane } from '../../../tenancy/redis/lane.js';
import { ensureNamespaces, restoreNamespaces } from '../../../tenancy/redis/namespace.js';
import { encode } from '../../../tenancy/redis/resp.js';
import type { RedisNamespace } from '../../../tenancy/redis/scoped.js';
import { openLink } from '../../support/link.js';
import { until } from '../../support/until.js';
import {
  type Bench,
  failOver,
  follow,
  openBench,
  scopedOf,
  startOwnRedis,
  type TestTenant,
  withoutCredentials,
} from './support.js';

describe('a Redis that goes away', () => {
  let own: { server: RunningServer; close(): Promise<void> };
  let server: RunningServer;
  let bench: Bench;
  beforeEach(async () => {
    own = await startOwnRedis();
    server = own.server;
    bench = openBench(server.url);
  });
  afterEach(async () => {
    server.resume();
    await server.start();
    await bench.close();
    await own.close();
  });
  const notesOf = (tenant: TestTenant): RedisNamespace =>
    scopedOf(bench.source({ commandTimeout: 1_000, promoteAt: 10, maxPending: 500 }), tenant).namespace(
      'notes',
    );

  it('killed and empty of users: a clear error that is worth another try, then all is as before', async () => {
    const tenants = await bench.tenants(50);
    const source = bench.source({ promoteAt: 5, ownConnections: 10 });
    const all = tenants.map((tenant) => scopedOf(source, tenant).namespace('notes'));
    for (const notes of all) await notes.set('a', randomUUID());
    const before = await Promise.all(all.map((notes) => notes.get('a')));
    await server.kill();
    const away = await Promise.allSettled(all.map((notes) => notes.get('a')));
    for (const one of away)
      expect(one).toMatchObject({ reason: { code: 'STORE_UNAVAILABLE', retryable: true } });
    await server.start();
    // The server is back, its users are not.
    await until('it is reached again', async () => {
      const error = await all[0]?.get('a').catch((reason: { cause?: Error }) => reason);
      return typeof error === 'object' && /WRONGPASS/.test(error?.cause?.message ?? '');
    });
    for (const one of await Promise.allSettled(all.map((notes) => notes.get('a'))))
      expect(one).toMatchObject({ reason: { code: 'STORE_UNAVAILABLE' } });
    await bench.admin.ping();
    await ensureNamespaces(bench.admin, tenants);
    const after = all.map((notes) => until('it may come in', () => notes.get('a').catch(() => undefined)));
    expect(await Promise.all(after)).toEqual(before);
  });

  it('a short restart is waited through', async () => {
    const tenant = await bench.tenant();
    const notes = notesOf(tenant);
    await notes.set('a', 1);
    await bench.admin.client('KILL', 'USER', tenant.user);
    expect(await notes.get('a')).toBe('1');
  });

  it('that becomes a replica: writes go to the server that the address leads to now', async () => {
    const next = await startOwnRedis(server);
    const link = await openLink(server.url);
    const there = openBench(next.server.url);
    try {
      const tenants = await bench.tenants(2);
      const source = bench.source({
        servers: { redisUrl: withoutCredentials(link.url) },
        sharedConnections: 1,
      });
      const [one, other] = tenants.map((tenant) => scopedOf(source, tenant).namespace('notes'));
      await one?.set('a', 'before');
      await follow(next.server, server);
      await restoreNamespaces(there.admin, tenants);
      link.leadTo(next.server.url);
      await failOver(server, next.server);
      // The connections are still there, to a server that takes no writes any more.
      await until('it may write', () => one?.set('b', 'after').catch(() => undefined));
      expect(await Promise.all([one?.mget('a', 'b'), other?.incr('n')])).toEqual([['before', 'after'], 1]);
      expect(await there.admin.get(`${tenants[0]?.prefix}notes:b`)).toBe('after');
      expect(source.stats().connects).toBe(2);
    } finally {
      await there.close();
      await link.close();
      await next.close();
    }
  });

  it('that takes no writes for a while: reads go on', async () => {
    const next = await startOwnRedis(server);
    try {
      const [tenant, other] = await bench.tenants(2);
      if (tenant === undefined || other === undefined) throw new Error('no tenants');
      const source = bench.source({ sharedConnections: 1, ownConnections: 0 });
      const [notes, others] = [
        scopedOf(source, tenant).namespace('notes'),
        scopedOf(source, other).namespace('notes'),
      ];
      await notes.set('a', 'before');
      await follow(server, next.server);
      const writes = Array.from({ length: 200 }, () => others.set('b', 1));
      const reads = Array.from({ length: 200 }, () => notes.get('a'));
      expect((await Promise.allSettled(writes)).filter(({ status }) => status === 'fulfilled')).toEqual([]);
      await Promise.all(reads);
      for (let i = 0; i < 200; i++)
        await Promise.all([
          notes.get('a'),
          expect(others.set('b', 1)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' }),
        ]);
      // To look where the address leads is worth a connection now and then.
      expect(source.stats().connects).toBeLessThanOrEqual(10);
    } finally {
      await next.close();
    }
  });

  it('that hangs: what was sent and then aborted is counted for as long as it is on its way', async () => {
    const notes = scopedOf(bench.source({ maxPending: 50 }), await bench.tenant());
    await notes.namespace('notes').set('a', 1);
    server.pause();
    const large = 'x'.repeat(10 * 2 ** 20);
    const send = async (value: string): Promise<unknown> => {
      const abort = new AbortController();
      const sent = notes.withSignal(abort.signal).namespace('notes').set('a', value);
      setImmediate(() => abort.abort(new Error('aborted')));
      return sent.catch((error: { code?: string; message: string }) => error.code ?? error.message);
    };
    const told: unknown[] = [];
    for (let i = 0; i < 8; i++) told.push(await send(large));
    expect(told.slice(-2)).toEqual(['CLIENTS_EXHAUSTED', 'CLIENTS_EXHAUSTED']);
    server.resume();
    await until('there is room again', async () => (await send(large)) === 'aborted');
    await until('it is all answered', () =>
      notes
        .namespace('notes')
        .get('a')
        .catch(() => undefined),
    );
  });

  it('that is slower than what it is sent: a connection is given up, with all that nobody waits for any more', async () => {
    const lane = new Lane({
      url: withoutCredentials(server.url),
      name: 'test',
      connectTimeout: 2_000,
      commandTimeout: 200,
    });
    const account = { user: 'default', password: decodeURIComponent(new URL(server.url).password) };
    // So long that the server reads and answers them one by one.
    const slow = [
      ['EVAL', `for i = 1, 1e7 do end --${'x'.repeat(200_000)}`, '0'],
      ['INCR', 'n'],
    ];
    const outcomes: string[] = [];
    const submit = (): void =>
      lane.submit({
        account,
        text: slow.map(encode).join(''),
        count: 2,
        end: ({ kind }) => outcomes.push(kind),
      });
    for (let i = 0; i < 120; i++) submit();
    // Its answers come, so that it is not a connection that has gone dumb.
    await until('it is idle', () => {
      lane.checkTime(performance.now());
      return lane.isIdle;
    });
    lane.close();
    expect(outcomes).toHaveLength(120);
    expect(outcomes).toContain('late');
    await until('it has ended', async () => !String(await bench.admin.client('LIST')).includes('name=test'));
    expect(Number(await bench.admin.get('n'))).toBeLessThan(100);
  });

  it('that hangs: each command ends in time, and the queue does not grow', async () => {
    const notes = notesOf(await bench.tenant());
    await notes.set('n', 0);
    server.pause();
    const asked = await Promise.allSettled(Array.from({ length: 2_000 }, () => notes.incr('n')));
    const codes = asked.map((one) =>
      one.status === 'rejected' ? (one.reason as { code: string }).code : 'ok',
    );
    expect(codes.filter((code) => code === 'STORE_UNAVAILABLE')).toHaveLength(500);
    expect(codes.filter((code) => code === 'CLIENTS_EXHAUSTED')).toHaveLength(1_500);
    server.resume();
    const said = await until('it answers again', () => notes.incr('n').catch(() => undefined));
    expect(said).toBeLessThanOrEqual(501);
  });
});
