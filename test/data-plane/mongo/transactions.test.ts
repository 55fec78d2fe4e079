/** A tenant's transactions, where the driver leaves to its user what comes of them. */
import type { TenantId } from '../../../domain/ids.js';
import type { ScopedMongo, ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let pool: ScopedMongoPool;
let ids: TenantId[];
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(5);
  pool = tenants.open();
});
afterAll(() => tenants.close());
afterEach(() => until('no lease is left', () => pool.stats().leases === 0, 2_000));

const mongoOf = (position: number): ScopedMongo => pool.forTenant(contextOf(ids[position] as TenantId));
const textsOf = async (position: number): Promise<unknown[]> => {
  const found = await mongoOf(position).collection('transcripts').find().sort({ text: 1 }).toArray();
  return found.map((document) => document['text']);
};

it('whose failed statement was swallowed is over at once, and does not pass for committed', async () => {
  let attempts = 0;
  const swallowing = mongoOf(0).withTransaction(async (transaction) => {
    attempts++;
    const transcripts = transaction.collection('transcripts');
    await transcripts.insertOne(transcript('before'));
    await transcripts.insertOne({ nothing: 'that its validator takes' }).catch(() => undefined);
  });
  await expect(swallowing).rejects.toMatchObject({
    code: 'STORE_REFUSED',
    params: { reason: expect.stringContaining('was rolled back') as string },
    cause: { code: 121 },
  });
  // What was never sent has failed nothing.
  await mongoOf(0).withTransaction(async (transaction) => {
    const transcripts = transaction.collection('transcripts');
    await transcripts.findOne({ $where: 'true' }).catch(() => undefined);
    await transcripts.insertOne(transcript('after'));
  });
  expect([attempts, await textsOf(0)]).toEqual([1, ['after']]);
});

it('is given up by its signal in the midst of it, and commits nothing', async () => {
  const caller = new AbortController();
  const given = mongoOf(1).withTransaction(
    async (transaction) => {
      await transaction.collection('transcripts').insertOne(transcript('gone'));
      caller.abort(new Error('nobody waits'));
    },
    { signal: caller.signal },
  );
  await expect(given).rejects.toThrow('nobody waits');
  const silent = new AbortController();
  const waiting = mongoOf(1).withTransaction(
    async (transaction) => {
      await transaction.collection('transcripts').insertOne(transcript('gone as well'));
      setImmediate(() => silent.abort(new Error('nobody waits any more')));
      await new Promise<never>(() => undefined);
    },
    { signal: silent.signal },
  );
  await expect(waiting).rejects.toThrow('nobody waits any more');
  expect(await textsOf(1)).toEqual([]);
});

it('has in it what was asked for side by side, also where nobody waited for it', async () => {
  let attempts = 0;
  const left: Promise<unknown>[] = [];
  await mongoOf(3).withTransaction(async (transaction) => {
    attempts++;
    const transcripts = transaction.collection('transcripts');
    await Promise.all(['a', 'b', 'c', 'd', 'e'].map((text) => transcripts.insertOne(transcript(text))));
    left.push(transcripts.insertOne(transcript('f')), transcripts.insertOne(transcript('g')));
  });
  expect([attempts, await textsOf(3)]).toEqual([1, ['a', 'b', 'c', 'd', 'e', 'f', 'g']]);
  await Promise.all(left);
});

it('reads where it writes, whatever the URL says of reads', async () => {
  const { mongoUrl } = testStack();
  const elsewhere = new URL(mongoUrl);
  elsewhere.searchParams.set('readPreference', 'secondaryPreferred');
  const others = createTenants(elsewhere.href, mongoUrl);
  try {
    const [id] = await others.make(1);
    const mongo = others.open().forTenant(contextOf(id as TenantId));
    const read = await mongo.withTransaction(async (transaction) => {
      const transcripts = transaction.collection('transcripts');
      await transcripts.insertOne(transcript('read'));
      return [
        (await transcripts.findOne({}))?.['text'],
        (await transcripts.find().toArray()).length,
        await transcripts.countDocuments(),
        await transcripts.distinct('text'),
        (await transcripts.aggregate([{ $match: {} }]).toArray()).length,
      ];
    });
    expect(read).toEqual(['read', 1, 1, ['read'], 1]);
  } finally {
    await others.close();
  }
});

it('has no cursor that goes on behind its end', async () => {
  const transcripts = mongoOf(4).collection('transcripts');
  await transcripts.insertMany(['1', '2', '3', '4', '5'].map((text) => transcript(text)));
  const kept = await mongoOf(4).withTransaction(async (transaction) => {
    const cursor = transaction.collection('transcripts').find({}, { batchSize: 2 });
    await cursor.next();
    return { cursor };
  });
  await kept.cursor.next();
  await expect(kept.cursor.next()).rejects.toMatchObject({
    code: 'STORE_REFUSED',
    params: { reason: 'the transaction has ended' },
  });
});
