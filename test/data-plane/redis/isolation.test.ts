/** No tenant reaches another's keys: not through shared connections, not when a login fails, not past the wrapper. */
import { createServer, connect, type AddressInfo, type Server } from 'node:net';
import { once } from 'node:events';
import { TenantryError } from '../../../domain/errors.js';
import { newTenantId } from '../../../domain/ids.js';
import { redisKey } from '../../../domain/names.js';
import { type Account, Lane, type Outcome } from '../../../tenancy/redis/lane.js';
import { encode } from '../../../tenancy/redis/resp.js';
import { type Bench, openBench, scopedOf, type TestTenant, withoutCredentials } from './support.js';

describe('tenants on shared connections', () => {
  let bench: Bench;
  beforeAll(() => {
    bench = openBench();
  });
  afterAll(() => bench.close());

  it('hundreds interleaved over four connections, some of whose logins fail, read what they wrote', async () => {
    const tenants = await bench.tenants(300);
    const failing = new Set(tenants.filter((_, i) => i % 10 === 3));
    for (const tenant of failing) await bench.rotate(tenant, { knows: false });
    const source = bench.source({ sharedConnections: 4, ownConnections: 0 });
    let right = 0;
    const wrong: unknown[] = [];
    const refused: unknown[] = [];
    const one = async (tenant: TestTenant, round: number): Promise<void> => {
      const notes = scopedOf(source, tenant).namespace('notes');
      const mine = `${tenant.tenantId} ${round}`;
      try {
        const kind = (round + tenant.user.length) % 3;
        const got =
          kind === 0
            ? (await notes.set(`k${round}`, mine), await notes.get(`k${round}`))
            : kind === 1
              ? (await notes.pipeline().set('p', mine).get('p').exec())[1][1]
              : (await notes.multi().set('m', mine).get('m').exec())[1][1];
        if (got === mine && !failing.has(tenant)) right += 1;
        else wrong.push([mine, got]);
      } catch (error) {
        if (failing.has(tenant) && error instanceof TenantryError && error.code === 'STORE_UNAVAILABLE')
          refused.push(error);
        else wrong.push(error);
      }
    };
    for (let round = 0; round < 12; round++) await Promise.all(tenants.map((tenant) => one(tenant, round)));
    expect(wrong).toEqual([]);
    expect([right, refused.length]).toEqual([270 * 12, 30 * 12]);
    expect(source.stats()).toMatchObject({ shared: 4, own: 0, connected: 4, connects: 4, pending: 0 });
    // Nothing of those that could not log in was written, under any name.
    for (const { prefix } of failing) expect(await bench.admin.keys(`${prefix}*`)).toEqual([]);
  });

  it('callers of one tenant in the same turn share a login', async () => {
    const [one, other] = await bench.tenants(2);
    const source = bench.source({ sharedConnections: 1, ownConnections: 0 });
    if (one === undefined || other === undefined) throw new Error('no tenants');
    const first = scopedOf(source, one).namespace('notes');
    const second = scopedOf(source, other).namespace('notes');
    await Promise.all([first.get('a'), second.get('a')]);
    const before = source.stats().logins;
    await Promise.all(Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? first : second).get('a')));
    // Two, or one where the connection is the first one's already.
    expect(source.stats().logins - before).toBeLessThanOrEqual(2);
  });

  it('behind a login that failed, the server refuses the commands and nobody sees what it answered', async () => {
    const [good, bad] = await bench.tenants(2);
    if (good === undefined || bad === undefined) throw new Error('no tenants');
    const lane = openLane(bench.url);
    const key = redisKey(bad.tenantId, 'notes', 'a');
    await bench.admin.set(key, 'of bad');
    expect(await exchange(lane, good, [['SET', redisKey(good.tenantId, 'notes', 'a'), 'x']])).toEqual({
      kind: 'answered',
      replies: ['OK'],
    });
    const outcomes = await Promise.all([
      exchange(lane, { ...bad, password: 'wrong' }, [
        ['GET', key],
        ['SET', key, 'stolen'],
      ]),
      exchange(lane, good, [['GET', redisKey(good.tenantId, 'notes', 'a')]]),
      // Logged in as `good` here; a failed login and then its own transaction.
      exchange(lane, { ...bad, password: 'wrong' }, [['MULTI'], ['SET', key, 'stolen'], ['EXEC']]),
    ]);
    expect(outcomes).toEqual([
      {
        kind: 'login-refused',
        error: expect.objectContaining({ message: expect.stringMatching(/^WRONGPASS/) }),
      },
      { kind: 'answered', replies: ['x'] },
      { kind: 'login-refused', error: expect.anything() },
    ]);
    expect(await bench.admin.get(key)).toBe('of bad');
    lane.close();
  });

  it('under a password that fails after a good one of the same user, commands ran: they are not called refused', async () => {
    const tenant = await bench.tenant();
    const lane = openLane(bench.url);
    const key = redisKey(tenant.tenantId, 'notes', 'n');
    await exchange(lane, tenant, [['INCR', key]]);
    const outcome = await exchange(lane, { ...tenant, password: 'wrong' }, [['INCR', key]]);
    expect(outcome.kind).toBe('lost');
    expect(await bench.admin.get(key)).toBe('2');
    lane.close();
  });

  it("a transaction left open takes in nobody else's commands", async () => {
    const [careless, next] = await bench.tenants(2);
    if (careless === undefined || next === undefined) throw new Error('no tenants');
    const lane = openLane(bench.url);
    const key = redisKey(next.tenantId, 'notes', 'a');
    expect(await exchange(lane, careless, [['MULTI']])).toMatchObject({ kind: 'answered' });
    expect(await exchange(lane, next, [['SET', key, 'x'], ['EXEC']])).toMatchObject({ kind: 'lost' });
    // On a new connection all is well.
    expect(await exchange(lane, next, [['SET', key, 'y']])).toMatchObject({ kind: 'answered' });
    expect(lane.connects).toBe(2);
    lane.close();
  });

  it('with the wrapper by-passed the server answers NOPERM', async () => {
    const [tenant, other] = await bench.tenants(2);
    if (tenant === undefined || other === undefined) throw new Error('no tenants');
    await scopedOf(bench.source(), other).namespace('notes').set('a', 'secret');
    const raw = await bench.bypass(tenant);
    await raw.set(`${tenant.prefix}notes:a`, 1);
    const theirs = `${other.prefix}notes:a`;
    const forbidden: [string, ...string[]][] = [
      ['GET', theirs],
      ['SET', theirs, 'x'],
      ['DEL', theirs],
      ['MGET', `${tenant.prefix}notes:a`, theirs],
      ['RENAME', `${tenant.prefix}notes:a`, theirs],
      ['COPY', theirs, `${tenant.prefix}b`],
      ['GET', 'a'],
      ['GET', `tenantry:{${tenant.tenantId}}:marker`],
      ['KEYS', '*'],
      ['SCAN', '0'],
      ['RANDOMKEY'],
      ['DBSIZE'],
      ['SELECT', '1'],
      ['SWAPDB', '0', '1'],
      // Its own, to where nobody looks when the tenant is removed.
      ['MOVE', `${tenant.prefix}notes:a`, '1'],
      ['COPY', `${tenant.prefix}notes:a`, `${tenant.prefix}notes:a`, 'DB', '1'],
      ['CONFIG', 'GET', '*'],
      ['FLUSHALL'],
      ['FLUSHDB'],
      ['CLIENT', 'LIST'],
      ['CLIENT', 'SETNAME', 'x'],
      ['CLIENT', 'KILL', 'TYPE', 'normal'],
      ['ACL', 'LIST'],
      ['ACL', 'SETUSER', tenant.user, '~*'],
      ['EVAL', 'return 1', '0'],
      ['EVALSHA', 'x', '0'],
      ['FUNCTION', 'LIST'],
      ['FCALL', 'f', '0'],
      ['SCRIPT', 'LOAD', 'return 1'],
      ['MONITOR'],
      ['SAVE'],
      ['SHUTDOWN'],
      ['REPLICAOF', 'NO', 'ONE'],
      ['MIGRATE', '127.0.0.1', '1', theirs, '0', '1'],
      ['SORT', `${tenant.prefix}notes:a`],
      ['SUBSCRIBE', 'x'],
      ['PUBLISH', 'x', 'y'],
      ['WAIT', '0', '0'],
      // Its own keys, on a connection that others wait for, or have next.
      ['WATCH', `${tenant.prefix}notes:a`],
      ['UNWATCH'],
      ['DISCARD'],
      ['PING'],
      ['BLPOP', `${tenant.prefix}notes:list`, '0.1'],
      ['BLMOVE', `${tenant.prefix}notes:a`, `${tenant.prefix}notes:b`, 'LEFT', 'LEFT', '0.1'],
      ['BZPOPMIN', `${tenant.prefix}notes:z`, '0.1'],
      ['XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', `${tenant.prefix}notes:s`, '>'],
      ['MEMORY', 'USAGE', theirs],
      ['OBJECT', 'ENCODING', theirs],
      ['XREAD', 'STREAMS', theirs, '0'],
    ];
    const answers = await Promise.all(
      forbidden.map(async ([name, ...args]) => {
        const answer = await raw.call(name, ...args).catch((error: Error) => error.message);
        return [name, String(answer).split(' ')[0]];
      }),
    );
    expect(answers).toEqual(forbidden.map(([name]) => [name, 'NOPERM']));
    expect(await bench.admin.get(theirs)).toBe('secret');
  });

  it('a handle leads to nothing that sends, and says of itself what it was made to say', async () => {
    const tenant = await bench.tenant();
    const redis = scopedOf(bench.source(), tenant);
    const notes = redis.namespace('notes');
    const handles: object[] = [redis, notes, notes.pipeline(), notes.multi()];
    for (const handle of handles) {
      expect(Object.isFrozen(handle)).toBe(true);
      expect(Reflect.ownKeys(handle).filter((name) => typeof Reflect.get(handle, name) === 'object')).toEqual(
        [],
      );
      expect(Reflect.set(handle, 'tenantId', newTenantId())).toBe(false);
    }
    for (const handle of handles.slice(1)) {
      expect(Reflect.ownKeys(handle)).toEqual([]);
      expect(Reflect.get(handle, 'constructor')).toBeUndefined();
      // All tenants' handles share it.
      expect(Object.isFrozen(Object.getPrototypeOf(handle))).toBe(true);
    }
    expect(redis.tenantId).toBe(tenant.tenantId);
  });

  it('has no method for what looks around, runs code, waits or changes the user', async () => {
    const notes = scopedOf(bench.source(), await bench.tenant()).namespace('notes');
    const names =
      'keys scan config flushall flushdb select client eval evalsha call auth hello reset acl subscribe psubscribe publish watch blpop brpop monitor script function dbsize randomkey migrate rename copy sort duplicate sendCommand'.split(
        ' ',
      );
    expect(names.filter((name) => name in notes || name in notes.pipeline())).toEqual([]);
  });
});

describe('a server whose default user may do anything without a password', () => {
  let bench: Bench;
  let proxy: Server;
  /** What went over the wire, by connection. */
  let wires: { readonly from: 'client' | 'server'; readonly text: string }[][] = [];
  beforeAll(async () => {
    bench = openBench();
    const upstream = new URL(bench.url);
    proxy = createServer((socket) => {
      const wire: (typeof wires)[number] = [];
      wires.push(wire);
      const server = connect(Number(upstream.port), upstream.hostname);
      // As if the server had no password: the connection is the all-powerful user's before its first command.
      server.write(encode(['AUTH', 'default', decodeURIComponent(upstream.password)]));
      server.once('data', () => {
        socket.pipe(server).pipe(socket);
        socket.on('data', (data: Buffer) => wire.push({ from: 'client', text: String(data) }));
        server.on('data', (data: Buffer) => wire.push({ from: 'server', text: String(data) }));
      });
      socket.on('error', () => server.destroy()).on('close', () => server.destroy());
      server.on('error', () => socket.destroy());
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
  });
  beforeEach(() => {
    wires = [];
  });
  afterAll(async () => {
    await bench.close();
    proxy.close();
  });
  const proxied = (): string => `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`;

  it('runs nothing as it: not for tenants that cannot log in, and not after a cut', async () => {
    const [good, bad] = await bench.tenants(2);
    if (good === undefined || bad === undefined) throw new Error('no tenants');
    await bench.rotate(bad, { knows: false });
    const source = bench.source({
      servers: { redisUrl: proxied() },
      sharedConnections: 1,
      ownConnections: 0,
    });
    const badNotes = scopedOf(source, bad).namespace('notes');
    await expect(badNotes.set('a', 1)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await expect(badNotes.set('a', 1)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    expect(await bench.admin.exists(`${bad.prefix}notes:a`)).toBe(0);

    const goodNotes = scopedOf(source, good).namespace('notes');
    await goodNotes.set('a', 1);
    const working = Array.from({ length: 50 }, (_, i) => goodNotes.incr(`n${i}`).catch(() => 'lost'));
    await bench.admin.client('KILL', 'USER', good.user);
    await Promise.all(working);
    await Promise.all([
      expect(badNotes.set('b', 1)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' }),
      goodNotes.get('a'),
    ]);
    expect(await bench.admin.exists(`${bad.prefix}notes:b`)).toBe(0);

    // On each connection nothing is sent but logins, one by one, until one has succeeded.
    expect(wires.length).toBeGreaterThanOrEqual(2);
    for (const wire of wires) {
      const succeeded = wire.findIndex(({ from, text }) => from === 'server' && !text.startsWith('-'));
      const before = wire.slice(0, succeeded === -1 ? undefined : succeeded);
      expect(before.map(({ from }) => from)).toEqual(
        before.map((_, i) => (i % 2 === 0 ? 'client' : 'server')),
      );
      for (const { text } of before.filter(({ from }) => from === 'client'))
        expect(text).toMatch(/^\*7\r\n\$5\r\nHELLO\r\n(\$\d+\r\n[^\r]+\r\n){6}$/);
    }
    expect(wires.flat().filter(({ text }) => text.startsWith('-WRONGPASS'))).not.toEqual([]);
  });
});

const openLane = (url: string): Lane =>
  new Lane({ url: withoutCredentials(url), name: 'test', connectTimeout: 2_000, commandTimeout: 2_000 });

const accounts = new Map<string, Account>();
function exchange(lane: Lane, { user, password }: Account, commands: string[][]): Promise<Outcome> {
  const account = accounts.get(`${user} ${password}`) ?? { user, password };
  accounts.set(`${user} ${password}`, account);
  return new Promise((end) =>
    lane.submit({ account, text: commands.map(encode).join(''), count: commands.length, end }),
  );
}
