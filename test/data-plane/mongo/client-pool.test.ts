/** Few clients for many tenants: nobody's request fails because a client had to go. */
import { MongoClient } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import { createClientPool } from '../../../tenancy/mongo/client-pool.js';
import type { ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let ids: TenantId[];
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(10);
  const all = tenants.open({ maxClients: 20 });
  await Promise.all(
    ids.map((id) =>
      all
        .forTenant(contextOf(id))
        .collection('transcripts')
        .insertMany(Array.from({ length: 9 }, (_, i) => transcript(`${i}`, id))),
    ),
  );
  await all.close();
});
afterAll(() => tenants.close());

const id = (position: number): TenantId => ids[position] as TenantId;
const collectionOf = (pool: ScopedMongoPool, position: number) =>
  pool.forTenant(contextOf(id(position))).collection('transcripts');

describe('a pool of clients', () => {
  it('gives callers of one cold tenant one client', async () => {
    const pool = tenants.open();
    await Promise.all(Array.from({ length: 20 }, () => collectionOf(pool, 0).findOne({})));
    expect(pool.stats()).toMatchObject({ opened: 1, clients: 1, leases: 0 });
  });

  it('closes the client that was used longest ago', async () => {
    const pool = tenants.open({ maxClients: 2 });
    for (const position of [0, 1, 0, 2]) await collectionOf(pool, position).findOne({});
    expect(pool.stats()).toMatchObject({ opened: 3, evicted: 1 });
    await collectionOf(pool, 0).findOne({});
    expect(pool.stats().opened).toBe(3);
    await collectionOf(pool, 1).findOne({});
    expect(pool.stats().opened).toBe(4);
  });

  it('lets callers wait while all are held, in their order, and then says that it is exhausted', async () => {
    const pool = tenants.open({ maxClients: 1, waitMs: 400 });
    const cursor = collectionOf(pool, 0).find({}, { batchSize: 2 });
    await cursor.next();
    await expect(collectionOf(pool, 1).findOne({})).rejects.toMatchObject({ code: 'CLIENTS_EXHAUSTED' });
    const leaving = new AbortController();
    const left = collectionOf(pool, 1).findOne({}, { signal: leaving.signal });
    expect(pool.stats().waiting).toBe(1);
    leaving.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
    expect(pool.stats().waiting).toBe(0);
    // The tenant that has the client goes on.
    expect(await collectionOf(pool, 0).findOne({})).not.toBeNull();
    const order: number[] = [];
    const waiting = [3, 1, 2].map(async (position) => {
      await collectionOf(pool, position).findOne({});
      order.push(position);
    });
    await cursor.close();
    await Promise.all(waiting);
    expect(order).toEqual([3, 1, 2]);
  });

  it('never closes a client under a cursor or a transaction', async () => {
    const pool = tenants.open({ maxClients: 2, poolSizePerClient: 1 });
    const cursor = collectionOf(pool, 0).find({}, { batchSize: 2 });
    await cursor.next();
    for (let position = 1; position < 6; position++) await collectionOf(pool, position).findOne({});
    expect(await cursor.toArray()).toHaveLength(8);
  });

  it('makes another client go when one that was to go is held by now', async () => {
    const pool = createClientPool({
      mongoUrl: mongoUrlWithoutCredentials(testStack().mongoUrl),
      credentials: tenants.credentials,
      maxClients: 2,
      poolSize: 1,
      waitMs: 3_000,
      idleMs: 60_000,
      recheckMs: 60_000,
      loginPatienceMs: 1_000,
      serverSelectionMs: 2_000,
      socketTimeoutMs: 2_000,
      hangUpMs: 1_000,
    });
    const [first, second] = [await pool.lease(id(0)), await pool.lease(id(1))];
    const third = pool.lease(id(2));
    // Chosen, since all are at work; then its statement turns out to be a cursor's.
    expect(pool.stats()).toMatchObject({ draining: 1, waiting: 1 });
    first.hold();
    second.release();
    (await third).release();
    // One that is held before anybody waits is not chosen, and neither is waited for.
    const fourth = pool.lease(id(3));
    (await fourth).release();
    first.release();
    await pool.close();
    expect(pool.stats()).toMatchObject({ clients: 0, leases: 0 });
  });

  it('closes cursors that were forgotten, so that they keep no client', async () => {
    const pool = tenants.open({ maxClients: 2, cursorIdleMs: 150, waitMs: 3_000 });
    const forgotten = [0, 1].map((position) => collectionOf(pool, position).find({}, { batchSize: 2 }));
    for (const cursor of forgotten) await cursor.next();
    expect(await collectionOf(pool, 2).findOne({})).not.toBeNull();
    await until('no lease is left', () => pool.stats().leases === 0, 2_000);
    await expect(forgotten[0]?.toArray()).rejects.toMatchObject({ code: 'STORE_REFUSED' });
  });

  it('closes cursors whose reader is gone at once', async () => {
    const pool = tenants.open({ maxClients: 1, waitMs: 5_000 });
    const reader = new AbortController();
    const cursor = collectionOf(pool, 0).find({}, { batchSize: 2, signal: reader.signal });
    await cursor.next();
    const next = expect(collectionOf(pool, 1).findOne({})).resolves.not.toBeNull();
    reader.abort(new Error('gone'));
    await next;
    await expect(cursor.toArray()).rejects.toThrow('gone');
    expect(pool.stats().leases).toBe(0);
  });

  it('gives up transactions that were left open, so that they keep no client', async () => {
    const pool = tenants.open({ maxClients: 1, transactionIdleMs: 150, waitMs: 3_000 });
    let late: (() => Promise<unknown>) | undefined;
    const left = pool.forTenant(contextOf(id(0))).withTransaction(async (transaction) => {
      const transcripts = transaction.collection('transcripts');
      late = () => transcripts.findOne({});
      // Longer than it may say nothing, and never so long without a word.
      const until = performance.now() + 400;
      while (performance.now() < until) await transcripts.findOne({});
      await transcripts.insertOne(transcript('left'));
      await new Promise<never>(() => undefined);
    });
    await expect(left).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    await expect(late?.()).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    expect(await collectionOf(pool, 1).findOne({})).not.toBeNull();
    expect(await collectionOf(pool, 0).findOne({ text: 'left' })).toBeNull();
    expect(pool.stats().leases).toBe(0);
  });

  it('does not close a client that has just connected before its callers have it', async () => {
    const pool = tenants.open({ maxClients: 1 });
    const connect = MongoClient.prototype.connect;
    const crowd = async (): Promise<void> => {
      for (let step = 0; step < 20; step++) {
        const leaving = new AbortController();
        const left = collectionOf(pool, 1).findOne({}, { signal: leaving.signal });
        leaving.abort(new Error('left'));
        left.catch(() => undefined);
        // One for each turn between connecting and having.
        await Promise.resolve();
      }
    };
    let crowded: Promise<void> | undefined;
    jest.spyOn(MongoClient.prototype, 'connect').mockImplementationOnce(async function (this: MongoClient) {
      const connected = await connect.call(this);
      crowded = crowd();
      return connected;
    });
    expect(await collectionOf(pool, 0).findOne({})).not.toBeNull();
    await crowded;
    expect(crowded).toBeDefined();
  });

  it('gets a client back from a cursor that cannot be opened, whenever its caller has gone', async () => {
    const { connect } = MongoClient.prototype;
    for (let turns = 0; turns < 20; turns++) {
      const pool = tenants.open({ maxClients: 1 });
      const leaving = new AbortController();
      jest.spyOn(MongoClient.prototype, 'connect').mockImplementationOnce(async function (this: MongoClient) {
        const connected = await connect.call(this);
        void (async () => {
          for (let turn = 0; turn < turns; turn++) await Promise.resolve();
          leaving.abort(new Error('left'));
        })();
        return connected;
      });
      const sort = { text: 'sideways' as never };
      const read = collectionOf(pool, 0).find({}, { sort, signal: leaving.signal }).next();
      await expect(read).rejects.toThrow();
      await until(`no lease is left, ${turns}`, () => pool.stats().leases === 0, 500);
      await pool.close(100);
    }
  });

  it('takes bounds and times that are whole numbers, and no text', () => {
    const wrong = [Number.NaN, 0, -1, 1.5, 2 ** 31, Number.POSITIVE_INFINITY, '5' as unknown as number];
    for (const name of ['maxClients', 'poolSizePerClient', 'waitMs', 'cursorIdleMs', 'hangUpMs'])
      for (const value of wrong) expect(() => tenants.open({ [name]: value })).toThrow(RangeError);
    expect(tenants.open({ idleMs: 2 ** 31 - 1 }).stats().clients).toBe(0);
  });

  it('closes clients that nobody uses', async () => {
    const pool = tenants.open({ idleMs: 200 });
    await collectionOf(pool, 0).findOne({});
    await until('the client is closed', () => pool.stats().clients === 0, 3_000);
    expect(await collectionOf(pool, 0).findOne({})).not.toBeNull();
  });

  it('is not spoilt by a login that failed', async () => {
    const pool = tenants.open({ maxClients: 1, loginPatienceMs: 200 });
    const { publish } = await tenants.rotate(id(7));
    await expect(collectionOf(pool, 7).findOne({})).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    expect(pool.stats()).toMatchObject({ clients: 0, waiting: 0 });
    expect(await collectionOf(pool, 8).findOne({})).not.toBeNull();
    publish();
    expect(await collectionOf(pool, 7).findOne({})).not.toBeNull();
  });

  it('ends the work that is under way before it closes, and takes none after', async () => {
    const pool = tenants.open({ maxClients: 4 });
    const transcripts = collectionOf(pool, 9);
    const work = Array.from({ length: 20 }, (_, i) => transcripts.insertOne(transcript(`late ${i}`)));
    const reading = transcripts.find({}, { batchSize: 3 });
    await reading.next();
    const closed = pool.close();
    await expect(transcripts.findOne({})).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await Promise.all(work);
    await reading.toArray();
    await closed;
    expect(pool.stats()).toMatchObject({ clients: 0, connections: 0 });
  });

  it('cuts off, in the end, who does not finish', async () => {
    const pool = tenants.open();
    const reading = collectionOf(pool, 0).find({}, { batchSize: 2 });
    await reading.next();
    await pool.close(100);
    await expect(reading.toArray()).rejects.toMatchObject({
      code: expect.stringMatching(/^STORE_/) as string,
    });
  });
});
