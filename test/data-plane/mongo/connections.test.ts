/** A connection takes another's place only when the server has seen the end of that one: the bound is the server's. */
import type { TenantId } from '../../../domain/ids.js';
import { mongoDatabaseName } from '../../../domain/names.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import { type LentClient, openClient } from '../../../tenancy/mongo/lent-client.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { encrypted } from './support/encrypted.js';
import { type CountingProxy, countingProxy } from './support/counting-proxy.js';
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
  for (let round = 0; round < 10; round++)
    await abortOnTheWay((signal) => transcripts.findOne({}, { signal }));
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

it('nor when the driver takes its server for lost, and looks again how it is', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ maxClients: 1, poolSizePerClient: 1, hangUpMs: 30_000 });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  await transcripts.countDocuments({});
  proxy.delayEnds(100);
  proxy.resetOn('transcripts');
  expect(await transcripts.countDocuments({})).toBe(0);
  expect(proxy.peak()).toBeLessThanOrEqual(pool.stats().connectionBound);
  await pool.close();
});

it('nor when a client is closed whose connections are still being encrypted', async () => {
  const behind = await encrypted(testStack().mongoUrl);
  if (behind === undefined) return;
  const front = await countingProxy(new URL(behind.url));
  const over = createTenants(front.url, testStack().mongoUrl);
  try {
    const [first, second] = (await over.make(2)) as [TenantId, TenantId];
    const pool = over.open({ maxClients: 1, poolSizePerClient: 3, hangUpMs: 30_000 });
    const read = (id: TenantId, signal?: AbortSignal) =>
      pool
        .forTenant(contextOf(id))
        .collection('transcripts')
        .findOne({}, signal && { signal });
    await read(first);
    const made = front.made();
    behind.delayEnds(50);
    front.hold();
    const caller = new AbortController();
    const aborted = Promise.allSettled([1, 2, 3].map(() => read(first, caller.signal)));
    await until('two more are being opened', () => front.made() === made + 2);
    const next = Promise.all([1, 2, 3].map(() => read(second)));
    caller.abort(new Error('gone'));
    await aborted;
    front.release();
    await next;
    expect(pool.stats().handedOn).toBe(0);
    expect(behind.peak()).toBeLessThanOrEqual(pool.stats().connectionBound);
  } finally {
    await over.close();
    await front.close();
    await behind.close();
  }
});

describe('a client that is closed', () => {
  let id: TenantId;
  let lent: LentClient;
  const ping = (): Promise<unknown> => lent.client.db(mongoDatabaseName(id)).command({ ping: 1 });
  beforeAll(async () => {
    [id] = (await tenants.make(1)) as [TenantId];
  });
  beforeEach(async () => {
    const bounds = { poolSize: 1, serverSelectionMs: 5_000, socketTimeoutMs: 10_000, hangUpMs: 30_000 };
    const mongoUrl = mongoUrlWithoutCredentials(proxy.url);
    lent = openClient({ mongoUrl, ...bounds }, await tenants.userOf(id), new AbortController().signal);
    await ping();
  });

  it('has waited for the end of the connection that looks how its server is, too', async () => {
    await lent.leave();
    expect(proxy.connections()).toBe(1);
    proxy.delayEnds(20);
    await lent.close();
    expect(proxy.connections()).toBe(0);
  });

  it('opens no connection to say so', async () => {
    // Each has a session, of which the second stays.
    await Promise.all([ping(), ping()]);
    const transcripts = lent.client.db(mongoDatabaseName(id)).collection('transcripts');
    await abortOnTheWay((signal) => transcripts.findOne({}, { signal }));
    await until('its connection has ended', () => proxy.clients() <= 1);
    const made = proxy.made();
    await lent.close();
    expect(proxy.made()).toBe(made);
  });
});

it('never sends the rest of what was being sent when its caller went', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ maxClients: 1, poolSizePerClient: 1, hangUpMs: 30_000 });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  // More than there is room for on the way.
  const conversationId = { $in: ['x'.repeat(14_000_000), 'the last word '.repeat(100)] };
  await abortOnTheWay(
    (signal) => transcripts.findOne({ conversationId }, { signal }),
    () => proxy.hold(),
  );
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

it('leaves nothing behind when it is closed, though its server has not said a word yet', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ maxClients: 1, serverSelectionMs: 600_000 });
  proxy.delayAnswers(Number.POSITIVE_INFINITY);
  const waiting = expect(
    pool.forTenant(contextOf(id)).collection('transcripts').findOne({}),
  ).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await until('it looks how its server is', () => proxy.clients() === 1);
  await pool.close(0);
  await waiting;
  await until('it has gone', () => proxy.clients() === 0);
});

it('counts no connection that the driver gave up while it was being opened, and hands its client on', async () => {
  const [first, second] = (await tenants.make(2)) as [TenantId, TenantId];
  const pool = tenants.open({ maxClients: 1, poolSizePerClient: 2 });
  const count = (id: TenantId) => pool.forTenant(contextOf(id)).collection('transcripts').countDocuments({});
  await count(first);
  // The one while a second logs in: the driver takes its server for lost, and gives that one up.
  proxy.delayAnswers(10);
  proxy.resetOn('transcripts');
  await Promise.all([count(first), count(first)]);
  expect(pool.stats().connections).toBe(proxy.connections());
  await count(second);
  expect(pool.stats().handedOn).toBe(1);
  await pool.close();
});

/** Its caller goes when the server is being sent it. */
async function abortOnTheWay(
  read: (signal: AbortSignal) => Promise<unknown>,
  before = (): void => undefined,
): Promise<void> {
  const caller = new AbortController();
  const aborted = expect(read(caller.signal)).rejects.toThrow('gone');
  await proxy.seen('transcripts');
  before();
  caller.abort(new Error('gone'));
  await aborted;
}
