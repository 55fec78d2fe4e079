/** A connection takes another's place only when the server has seen the end of that one: the bound is the server's. */
import { EventEmitter, on, once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { TenantId } from '../../../domain/ids.js';
import { mongoDatabaseName } from '../../../domain/names.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import { openClient } from '../../../tenancy/mongo/lent-client.js';
import { testStack } from '../../support/stack.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let proxy: CountingProxy;
beforeAll(async () => {
  proxy = await countingProxy(new URL(testStack().mongoUrl));
  tenants = createTenants(proxy.url, testStack().mongoUrl);
});
beforeEach(() => proxy.startOver());
afterAll(async () => {
  await tenants.close();
  await proxy.close();
});

it('never has more connections than its bound as the server sees it, however often clients are handed on', async () => {
  const ids = await tenants.make(8);
  const pool = tenants.open({ maxClients: 3, poolSizePerClient: 1, waitMs: 30_000, hangUpMs: 30_000 });
  await Promise.all(
    ids.map(async (id) => {
      for (let round = 0; round < 20; round++)
        await pool.forTenant(contextOf(id)).collection('transcripts').findOne({});
    }),
  );
  const { handedOn, connectionBound } = pool.stats();
  expect(handedOn).toBeGreaterThan(50);
  expect(connectionBound).toBe(6);
  expect(proxy.peak()).toBeLessThanOrEqual(connectionBound);
  await pool.close();
});

it('nor when reads are aborted, each of which costs a connection', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({
    maxClients: 1,
    poolSizePerClient: 1,
    waitMs: 30_000,
    hangUpMs: 30_000,
    socketTimeoutMs: 5_000,
  });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  // The server's end comes behind all that it says before.
  await transcripts.insertOne(transcript('x'.repeat(1_000_000)));
  proxy.delayEnds(20);
  for (let round = 0; round < 10; round++) {
    const caller = new AbortController();
    const read = expect(transcripts.findOne({}, { signal: caller.signal })).rejects.toThrow('gone');
    await proxy.seen('transcripts');
    caller.abort(new Error('gone'));
    await read;
  }
  expect(await transcripts.countDocuments({})).toBe(1);
  // One for each, one for what is not aborted, and the one that looks how the server is.
  expect(proxy.made()).toBe(12);
  expect(proxy.peak()).toBeLessThanOrEqual(pool.stats().connectionBound);
  await pool.close();
}, 10_000);

it('nor when a login is refused, which costs the whole client', async () => {
  const [known, unknown] = (await tenants.make(2)) as [TenantId, TenantId];
  // What the credentials say is never heard of.
  await tenants.rotate(unknown);
  const pool = tenants.open({
    maxClients: 1,
    poolSizePerClient: 1,
    waitMs: 30_000,
    hangUpMs: 30_000,
    loginPatienceMs: 100,
  });
  proxy.delayEnds(20);
  const read = (id: TenantId) => pool.forTenant(contextOf(id)).collection('transcripts').findOne({});
  await read(known);
  await expect(read(unknown)).rejects.toMatchObject({ code: 'STORE_REFUSED' });
  await read(known);
  expect(proxy.made()).toBeGreaterThanOrEqual(6);
  expect(proxy.peak()).toBeLessThanOrEqual(pool.stats().connectionBound);
  await pool.close();
});

it('waits for the end of the connection that looks how the server is, too', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const lent = openClient(
    {
      mongoUrl: mongoUrlWithoutCredentials(proxy.url),
      poolSize: 1,
      serverSelectionMs: 5_000,
      socketTimeoutMs: 10_000,
      hangUpMs: 30_000,
    },
    await tenants.userOf(id),
    new AbortController().signal,
  );
  await lent.client.db(mongoDatabaseName(id)).command({ ping: 1 });
  await lent.leave();
  expect(proxy.connections()).toBe(1);
  proxy.delayEnds(20);
  await lent.close();
  expect(proxy.connections()).toBe(0);
});

it('never sends the rest of what was being sent when its caller went', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ maxClients: 1, poolSizePerClient: 1, hangUpMs: 30_000 });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  const caller = new AbortController();
  // More than there is room for on the way.
  const conversationId = { $in: ['x'.repeat(14_000_000), 'the last word '.repeat(100)] };
  const read = expect(transcripts.findOne({ conversationId }, { signal: caller.signal })).rejects.toThrow(
    'gone',
  );
  await proxy.seen('transcripts');
  proxy.hold();
  caller.abort(new Error('gone'));
  await read;
  const outcome = Promise.race([
    proxy.seen('the last word').then(() => 'sent'),
    proxy.ended().then(() => 'ended'),
  ]);
  proxy.release();
  expect(await outcome).toBe('ended');
  await pool.close();
});

it('does not wait for ever for a server that does not hang up', async () => {
  const ids = await tenants.make(2);
  const pool = tenants.open({ maxClients: 1, waitMs: 30_000, hangUpMs: 50 });
  proxy.keepEnds();
  for (const id of [...ids, ...ids])
    expect(await pool.forTenant(contextOf(id)).collection('transcripts').findOne({})).toBeNull();
  expect(pool.stats().evicted).toBe(3);
  await pool.close();
});

it('does not wait for it at all when the pool is closed', async () => {
  const [first, second] = (await tenants.make(2)) as [TenantId, TenantId];
  const pool = tenants.open({ maxClients: 1, waitMs: 600_000, hangUpMs: 600_000 });
  proxy.keepEnds();
  expect(await pool.forTenant(contextOf(first)).collection('transcripts').findOne({})).toBeNull();
  const waiting = expect(
    pool.forTenant(contextOf(second)).collection('transcripts').findOne({}),
  ).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await pool.close(0);
  await waiting;
});

interface CountingProxy {
  readonly url: string;
  /** Of the server, now. */
  connections(): number;
  /** The most that it had at once. */
  peak(): number;
  /** All that it ever had. */
  made(): number;
  /** When the next message that has this in it is on its way to the server. */
  seen(text: string): Promise<void>;
  /** When the next client's connection has ended. */
  ended(): Promise<unknown>;
  /** Nothing comes from the clients until `release`. */
  hold(): void;
  release(): void;
  /** From now on the server hears that a connection has ended so many milliseconds later. */
  delayEnds(ms: number): void;
  /** From now on nobody hears that the server has hung up. */
  keepEnds(): void;
  /** With its counts, and what it was told. */
  startOver(): void;
  close(): Promise<void>;
}

async function countingProxy(to: URL): Promise<CountingProxy> {
  const [near, far] = [new Set<Socket>(), new Set<Socket>()];
  const messages = new EventEmitter();
  let [peak, made, endMs, endsComeThrough] = [0, 0, 0, true];
  // Each half by itself: the client's end goes to the server, and the client hears of the server's.
  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: to.hostname, port: Number(to.port), allowHalfOpen: true });
    near.add(client.on('error', () => undefined).on('close', () => near.delete(client)));
    far.add(upstream.on('error', () => client.destroy()).on('close', () => far.delete(upstream)));
    made++;
    peak = Math.max(peak, far.size);
    client.on('data', (message) => {
      upstream.write(message);
      messages.emit('message', message);
    });
    client.on('end', () => setTimeout(() => upstream.end(), endMs));
    client.on('close', () => {
      setTimeout(() => upstream.destroy(), endMs);
      messages.emit('end');
    });
    upstream.pipe(client, { end: false });
    upstream.on('end', () => {
      if (endsComeThrough) client.end();
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = new URL(to);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    connections: () => far.size,
    peak: () => peak,
    made: () => made,
    async seen(text) {
      for await (const [message] of on(messages, 'message')) if ((message as Buffer).includes(text)) return;
    },
    ended: () => once(messages, 'end'),
    hold() {
      for (const client of near) client.pause();
    },
    release() {
      for (const client of near) client.resume();
    },
    delayEnds(ms) {
      endMs = ms;
    },
    keepEnds() {
      endsComeThrough = false;
    },
    startOver() {
      [peak, made, endMs, endsComeThrough] = [far.size, 0, 0, true];
    },
    async close() {
      for (const socket of [...near, ...far]) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
