/** A tenant's collection: what it does, and that it is nobody else's. */
import { Long, ObjectId, UUID } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { mongoDatabaseName, MONGO_ROLE } from '../../../domain/names.js';
import { TenantryError } from '../../../domain/errors.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import type { FindOneOptions } from '../../../tenancy/mongo/call-types.js';
import type { ScopedMongo, ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { collectionLayouts, tenantPrivileges } from '../../../tenancy/mongo/layout.js';
import { openLink } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { trappedSignal } from '../../support/trapped-signal.js';
import { until } from '../../support/until.js';
import supportDesk from '../../../manifest/support-desk.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let pool: ScopedMongoPool;
let ids: TenantId[];
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(24);
  pool = tenants.open();
});
afterAll(() => tenants.close());

const mongoOf = (position: number, mode: 'open' | 'read-only' = 'open'): ScopedMongo =>
  pool.forTenant(contextOf(ids[position] as TenantId, mode));

describe('a collection', () => {
  it('inserts, finds, updates, replaces and deletes', async () => {
    const transcripts = mongoOf(0).collection('transcripts');
    const { insertedId } = await transcripts.insertOne(transcript('one'));
    const { insertedIds } = await transcripts.insertMany([transcript('two'), transcript('three', 'c2')]);
    expect(insertedIds).toHaveLength(2);
    expect(await transcripts.findOne({ _id: insertedId })).toMatchObject({ text: 'one' });
    expect(await transcripts.findOne({ text: 'none' })).toBeNull();
    const sorted = transcripts.find({}).sort({ text: -1 }).skip(1).limit(1).project({ text: 1, _id: 0 });
    expect(await sorted.toArray()).toEqual([{ text: 'three' }]);
    expect(await transcripts.updateOne({ text: 'two' }, { $set: { text: 'second' } })).toEqual({
      matchedCount: 1,
      modifiedCount: 1,
      upsertedCount: 0,
      upsertedId: null,
    });
    expect(await transcripts.updateMany({}, [{ $set: { text: { $toUpper: '$text' } } }])).toMatchObject({
      matchedCount: 3,
    });
    expect(await transcripts.distinct('text')).toEqual(expect.arrayContaining(['ONE', 'SECOND', 'THREE']));
    await transcripts.replaceOne({ text: 'ONE' }, transcript('first'));
    expect(
      await transcripts.findOneAndUpdate(
        { text: 'first' },
        { $set: { text: '1st' } },
        { returnDocument: 'after', projection: { text: 1 } },
      ),
    ).toEqual({ _id: insertedId, text: '1st' });
    expect(await transcripts.findOneAndReplace({ text: '1st' }, transcript('I'))).toMatchObject({
      text: '1st',
    });
    expect(await transcripts.countDocuments({ conversationId: 'c1' })).toBe(2);
    expect(await transcripts.estimatedDocumentCount()).toBe(3);
    const grouped = transcripts.aggregate<{ _id: string; count: number }>([
      { $group: { _id: '$conversationId', count: { $sum: 1 } } },
      { $sort: { _id: 1 } },
    ]);
    expect(await grouped.toArray()).toEqual([
      { _id: 'c1', count: 2 },
      { _id: 'c2', count: 1 },
    ]);
    expect(await transcripts.findOneAndDelete({ text: 'I' })).toMatchObject({ text: 'I' });
    expect(await transcripts.deleteOne({ text: 'SECOND' })).toEqual({ deletedCount: 1 });
    expect(await transcripts.deleteMany({})).toEqual({ deletedCount: 1 });
  });

  it('finds one by each of its options, alone and together', async () => {
    const transcripts = mongoOf(7).collection('transcripts');
    await transcripts.insertMany(
      ['b', 'A', 'c'].map((text, i) => ({ ...transcript(text), createdAt: new Date(i) })),
    );
    const text = { _id: 0, text: 1 };
    const found = (options: FindOneOptions, filter = {}) => transcripts.findOne(filter, options);
    expect(await found({ projection: text })).toEqual({ text: 'b' });
    expect(await found({ projection: text, skip: 1 })).toEqual({ text: 'A' });
    expect(await found({ projection: text, sort: { createdAt: -1 } })).toEqual({ text: 'c' });
    expect(await found({ projection: text, sort: { text: 'asc' }, skip: 2, comment: 'last' })).toEqual({
      text: 'c',
    });
    expect(await found({ projection: text, hint: '_id_' }, { text: 'A' })).toEqual({ text: 'A' });
    const insensitive = { locale: 'en', strength: 2 };
    expect(await found({ projection: text, collation: insensitive }, { text: 'B' })).toEqual({ text: 'b' });
    const wanted = { $expr: { $eq: ['$text', '$$wanted'] } };
    expect(await found({ projection: text, let: { wanted: 'c' } }, wanted)).toEqual({ text: 'c' });
    expect(await found({ maxTimeMS: 5_000, allowDiskUse: true, skip: 3 })).toBeNull();
    expect(await found({ projection: text, signal: new AbortController().signal })).toEqual({ text: 'b' });
    await transcripts.deleteMany({});
  });

  it('finds one again, as the driver would, when its connection is lost on the way', async () => {
    const link = await openLink(testStack().mongoUrl);
    const through = tenants.open({ servers: { mongoUrl: mongoUrlWithoutCredentials(link.url) } });
    try {
      const transcripts = through.forTenant(contextOf(ids[8] as TenantId)).collection('transcripts');
      const { insertedId } = await transcripts.insertOne(transcript());
      const asked = Array.from({ length: 4 }, () => transcripts.findOne({ _id: insertedId }));
      link.cut();
      for (const found of await Promise.all(asked)) expect(found).toMatchObject({ _id: insertedId });
    } finally {
      await through.close(1_000);
      await link.close();
    }
  });

  it('writes in bulk, to itself', async () => {
    const transcripts = mongoOf(0).collection('transcripts');
    const result = await transcripts.bulkWrite([
      { insertOne: { document: transcript('a') } },
      { insertOne: { document: transcript('b') } },
      { updateOne: { filter: { text: 'a' }, update: { $set: { text: 'A' } } } },
      { replaceOne: { filter: { text: 'x' }, replacement: transcript('x'), upsert: true } },
      { deleteOne: { filter: { text: 'b' } } },
    ]);
    expect(result).toMatchObject({ insertedCount: 2, modifiedCount: 1, deletedCount: 1, upsertedCount: 1 });
    expect(await transcripts.deleteMany({})).toEqual({ deletedCount: 2 });
  });

  it('keeps the values of BSON as they are, and does not touch what it was given', async () => {
    const events = mongoOf(0).collection('events');
    const payload = {
      id: new ObjectId(),
      uuid: new UUID(),
      long: Long.fromString('9223372036854775807'),
      bytes: Buffer.from('abc'),
      nested: [{ deep: [1, 'two', null, /three/i] }],
    };
    const document = { kind: 'k', at: new Date(), payload };
    const { insertedId } = await events.insertOne(document);
    expect(document).not.toHaveProperty('_id');
    const found = await events.findOne({ _id: insertedId });
    expect(found?.['payload']).toMatchObject({ id: payload.id, long: payload.long, nested: payload.nested });
    expect(String((found?.['payload'] as typeof payload | undefined)?.uuid)).toBe(String(payload.uuid));
  });

  it('reads by cursor in batches, and closes it when its reader leaves', async () => {
    const transcripts = mongoOf(1).collection('transcripts');
    await transcripts.insertMany(Array.from({ length: 25 }, (_, i) => transcript(`t${i}`)));
    const seen: string[] = [];
    for await (const { text } of transcripts.find({}, { batchSize: 4 })) seen.push(String(text));
    expect(new Set(seen).size).toBe(25);
    for await (const found of transcripts.find().batchSize(2)) {
      expect(found).toBeDefined();
      break;
    }
    const cursor = transcripts.find({}, { batchSize: 5 });
    expect(await cursor.hasNext()).toBe(true);
    expect(() => cursor.limit(1)).toThrow(TenantryError);
    const heads = await Promise.all([cursor.next(), cursor.next(), cursor.next()]);
    expect(new Set(heads.map((found) => String(found?._id))).size).toBe(3);
    expect(await cursor.toArray()).toHaveLength(22);
    expect(cursor.closed).toBe(true);
    expect(pool.stats().leases).toBe(0);
  });

  it('tells failures by codes, with the driver’s own as the cause', async () => {
    const transcripts = mongoOf(2).collection('transcripts');
    const { insertedId } = await transcripts.insertOne(transcript());
    await expect(transcripts.insertOne({ ...transcript(), _id: insertedId })).rejects.toMatchObject({
      code: 'STORE_REFUSED',
      cause: { code: 11000 },
    });
    await expect(transcripts.insertOne({ text: 'incomplete' })).rejects.toMatchObject({
      code: 'STORE_REFUSED',
      cause: { code: 121 },
    });
    await expect(transcripts.insertOne(transcript('x'.repeat(17 * 2 ** 20)))).rejects.toMatchObject({
      code: 'STORE_REFUSED',
    });
    expect(await transcripts.countDocuments()).toBe(1);
    await transcripts.insertOne(transcript('x'.repeat(15 * 2 ** 20)));
    expect(await transcripts.deleteMany({})).toEqual({ deletedCount: 2 });
  });

  it('is given up by its caller’s signal, before and while it is sent', async () => {
    const transcripts = mongoOf(3).collection('transcripts');
    await transcripts.insertOne(transcript());
    const gone = AbortSignal.abort(new Error('gone'));
    await expect(transcripts.findOne({}, { signal: gone })).rejects.toThrow('gone');
    await expect(transcripts.find({}, { signal: gone }).toArray()).rejects.toThrow('gone');
    await expect(transcripts.deleteMany({}, { signal: gone })).rejects.toThrow('gone');
    // Whatever one has of its own is not asked.
    const { signal, abort } = trappedSignal();
    expect(await transcripts.updateMany({}, { $set: { text: 'x' } }, { signal })).toMatchObject({
      modifiedCount: 1,
    });
    abort(new Error('gone too'));
    await expect(transcripts.deleteMany({}, { signal })).rejects.toThrow('gone too');
    const leaving = new AbortController();
    const asked = transcripts.insertMany(
      Array.from({ length: 2_000 }, () => transcript()),
      { signal: leaving.signal },
    );
    setImmediate(() => leaving.abort(new Error('left')));
    await expect(asked).rejects.toThrow('left');
    expect(await transcripts.countDocuments()).toBeGreaterThan(0);
    // What was left behind keeps its client for as long as it takes.
    await until('no lease is left', () => pool.stats().leases === 0);
  });
});

it('a cursor takes no less and no more, whoever looks whether there is another while others take', async () => {
  const transcripts = mongoOf(20).collection('transcripts');
  await transcripts.insertMany(Array.from({ length: 7 }, (_, i) => transcript(`t${i}`)));
  const cursor = transcripts.find({}, { batchSize: 2 });
  const texts: unknown[] = [];
  const take = async (): Promise<void> => {
    const found = await cursor.next();
    if (found !== null) texts.push(found['text']);
  };
  for (let i = 0; i < 7; i++) await Promise.all([take(), cursor.hasNext(), take(), cursor.hasNext()]);
  expect(texts.sort()).toEqual(['t0', 't1', 't2', 't3', 't4', 't5', 't6']);
  expect([await cursor.hasNext(), await cursor.next()]).toEqual([false, null]);
});

it('a cursor that is closed has nothing more, also where somebody looked meanwhile', async () => {
  const transcripts = mongoOf(21).collection('transcripts');
  await transcripts.insertMany(Array.from({ length: 6 }, () => transcript()));
  for (const begin of ['new', 'begun', 'at the end of a batch']) {
    const cursor = transcripts.find({}, { batchSize: 2 });
    if (begin !== 'new') await cursor.next();
    if (begin === 'at the end of a batch') await cursor.next();
    const looked = cursor.hasNext();
    await cursor.close();
    await looked;
    expect([await cursor.next(), await cursor.hasNext(), await cursor.next()]).toEqual([null, false, null]);
    expect(cursor.closed).toBe(true);
  }
  await until('no lease is left', () => pool.stats().leases === 0);
});

describe('tenants side by side', () => {
  it('see their own documents only, 24 of them at once', async () => {
    const one = async (position: number): Promise<void> => {
      const events = mongoOf(position).collection('events');
      for (let i = 0; i < 5; i++) await events.insertOne({ kind: `tenant-${position}`, at: new Date() });
      const kinds = new Set<unknown>();
      for await (const { kind } of events.find({}, { batchSize: 2 })) kinds.add(kind);
      kinds.delete('k');
      expect([...kinds]).toEqual([`tenant-${position}`]);
      expect(await events.countDocuments({ kind: { $ne: `tenant-${position}` } })).toBe(
        position === 0 ? 1 : 0,
      );
    };
    await Promise.all(ids.map((_, position) => one(position)));
  });
});

describe('a transaction', () => {
  it('commits what it did, and nothing when its work fails', async () => {
    const mongo = mongoOf(4);
    const answer = await mongo.withTransaction(async (transaction) => {
      await transaction.collection('transcripts').insertOne(transcript('in'));
      await transaction.collection('events').insertOne({ kind: 'in', at: new Date() });
      expect(await transaction.collection('transcripts').find({}).toArray()).toHaveLength(1);
      return 'done';
    });
    expect(answer).toBe('done');
    await expect(
      mongo.withTransaction(async (transaction) => {
        await transaction.collection('transcripts').insertOne(transcript('lost'));
        throw new Error('of the work itself');
      }),
    ).rejects.toThrow('of the work itself');
    expect(await mongo.collection('transcripts').countDocuments()).toBe(1);
    expect(pool.stats().leases).toBe(0);
  });

  it('cannot be used when it is over', async () => {
    const mongo = mongoOf(4);
    const kept = await mongo.withTransaction((transaction) =>
      Promise.resolve(transaction.collection('events')),
    );
    await expect(kept.findOne({})).rejects.toMatchObject({ code: 'STORE_REFUSED' });
  });
});

describe('a tenant whose rights were taken', () => {
  it('is refused on the connections that it has, with a clear error', async () => {
    const id = ids[5] as TenantId;
    const transcripts = mongoOf(5).collection('transcripts');
    await transcripts.insertOne(transcript());
    const db = tenants.admin.db(mongoDatabaseName(id));
    const privileges = tenantPrivileges(db.databaseName, collectionLayouts(supportDesk));
    const toRead = privileges.map((privilege) => ({ ...privilege, actions: ['find'] }));
    await db.command({ updateRole: MONGO_ROLE, privileges: toRead });
    await expect(transcripts.insertOne(transcript())).rejects.toMatchObject({
      code: 'STORE_REFUSED',
      params: { reason: expect.stringContaining('code 13') as string },
    });
    expect(await transcripts.countDocuments()).toBe(1);

    const told = tenants.open({ askAccess: () => 'read-only' }).forTenant(contextOf(id));
    await expect(told.collection('transcripts').insertOne(transcript())).rejects.toMatchObject({
      code: 'TENANT_SUSPENDED',
      params: { mode: 'read-only' },
    });

    await db.command({ updateRole: MONGO_ROLE, privileges: [] });
    await expect(transcripts.findOne({})).rejects.toMatchObject({ code: 'STORE_REFUSED' });
    const blocked = tenants.open({
      askAccess: () => Promise.reject(new TenantryError('TENANT_SUSPENDED', { mode: 'blocked' })),
    });
    await expect(
      blocked.forTenant(contextOf(id)).collection('transcripts').findOne({}),
    ).rejects.toMatchObject({
      code: 'TENANT_SUSPENDED',
      params: { mode: 'blocked' },
    });
    await db.command({ updateRole: MONGO_ROLE, privileges });
    expect(await transcripts.findOne({})).not.toBeNull();
  });

  it('does not write where its context may only read, without asking the server', async () => {
    const readOnly = mongoOf(6, 'read-only').collection('transcripts');
    await expect(readOnly.insertOne(transcript())).rejects.toMatchObject({ code: 'TENANT_SUSPENDED' });
    await expect(readOnly.aggregate([{ $out: 'events' }]).toArray()).rejects.toMatchObject({
      code: 'TENANT_SUSPENDED',
    });
    expect(await readOnly.findOne({})).toBeNull();
  });
});
