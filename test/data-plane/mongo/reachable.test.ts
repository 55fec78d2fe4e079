/** From nothing that a product is handed can it come to the driver: everything reachable is walked through. */
import { AbstractCursor, ClientSession, Collection, Db, MongoClient } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
beforeAll(() => {
  tenants = createTenants();
});
afterAll(() => tenants.close());

const WAYS_OUT = [MongoClient, Db, Collection, ClientSession, AbstractCursor];
const NAMES =
  /^(Topology|Server|ConnectionPool|Connection|MongoClient|Db|Collection|ClientSession|ServerSession|Login)$/;

it('finds no client, database, session or connection', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open();
  const mongo = pool.forTenant(contextOf(id));
  const transcripts = mongo.collection('transcripts');
  await transcripts.insertMany(Array.from({ length: 9 }, () => transcript()));
  const errorOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => 'no error',
      (error: unknown) => error,
    );
  const open = transcripts.find({}, { batchSize: 2 });
  const aggregate = transcripts.aggregate([], { batchSize: 2 });
  const { insertedId } = await transcripts.insertOne(transcript());
  const handed: Record<string, unknown> = {
    mongo,
    transcripts,
    open,
    first: await open.next(),
    aggregate,
    second: await aggregate.next(),
    iterator: transcripts.find()[Symbol.asyncIterator](),
    unread: transcripts.find(),
    insert: await transcripts.insertMany([transcript()]),
    update: await transcripts.updateOne({}, { $set: { text: 'x' } }),
    remove: await transcripts.deleteOne({}),
    bulk: await transcripts.bulkWrite([{ insertOne: { document: transcript() } }]),
    found: await transcripts.findOneAndUpdate({}, { $set: { text: 'y' } }),
    duplicate: await errorOf(transcripts.insertOne({ ...transcript(), _id: insertedId })),
    duplicates: await errorOf(transcripts.insertMany([{ ...transcript(), _id: insertedId }])),
    inBulk: await errorOf(
      transcripts.bulkWrite([{ insertOne: { document: { ...transcript(), _id: insertedId } } }]),
    ),
    invalid: await errorOf(transcripts.insertOne({})),
    refused: await errorOf(transcripts.aggregate([{ $sort: {} }]).toArray()),
    aborted: await errorOf(transcripts.findOne({}, { signal: AbortSignal.abort() })),
    transaction: await mongo.withTransaction(async (transaction) => {
      const collection = transaction.collection('events');
      const cursor = collection.find({});
      await cursor.next();
      return { transaction, collection, cursor };
    }),
    inTransaction: await errorOf(
      mongo.withTransaction((transaction) =>
        transaction.collection('transcripts').insertOne({ ...transcript(), _id: insertedId }),
      ),
    ),
    unavailable: await errorOf(
      tenants
        .open({
          servers: { mongoUrl: 'mongodb://127.0.0.1:9/?directConnection=true' },
          serverSelectionMs: 300,
        })
        .forTenant(contextOf(id))
        .collection('transcripts')
        .findOne({}),
    ),
  };
  for (const name of ['duplicate', 'duplicates', 'inBulk', 'invalid', 'inTransaction', 'unavailable'])
    expect(handed[name]).toMatchObject({ code: expect.stringMatching(/^STORE_/) as string });
  const seen = walk(handed);
  expect(seen.waysOut).toEqual([]);
  expect(seen.count).toBeGreaterThan(200);
  await open.close();
  await aggregate.close();
});

it('has no method of a collection beyond those that are guarded', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const collection: object = tenants.open().forTenant(contextOf(id)).collection('transcripts');
  for (const name of [
    'client',
    'db',
    's',
    'dbName',
    'namespace',
    'collectionName',
    'rename',
    'drop',
    'createIndex',
    'dropIndex',
    'indexes',
    'initializeOrderedBulkOp',
    'options',
    'watch',
    'mapReduce',
    'isCapped',
    'hint',
    'readConcern',
    'writeConcern',
  ])
    expect(name in collection).toBe(false);
  expect(Reflect.ownKeys(collection)).toEqual([]);
  expect(Object.isFrozen(collection)).toBe(true);
  expect(() => Object.defineProperty(collection, 'find', { value: 1 })).toThrow(TypeError);
  expect(Object.isFrozen(Object.getPrototypeOf(collection))).toBe(true);
});

/** Own properties, symbols, getters with each object as their `this`, prototypes, entries of maps and sets. */
function walk(root: unknown): { waysOut: string[]; count: number } {
  const waysOut: string[] = [];
  const seen = new Set<unknown>();
  const queue: [path: string, value: unknown][] = [['handed', root]];
  // What everybody has anyway leads nowhere that is ours.
  const common = new Set<unknown>([globalThis, process, Object, Function, Error, Promise, Array, Buffer]);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const [path, value] = next;
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) continue;
    if (seen.has(value) || common.has(value)) continue;
    seen.add(value);
    const name = (value as { constructor?: { name?: unknown } }).constructor?.name;
    if (
      WAYS_OUT.some((kind) => value instanceof kind) ||
      (typeof value === 'object' && NAMES.test(String(name)) && !Object.hasOwn(value, 'constructor'))
    )
      waysOut.push(path);
    if (value instanceof Map || value instanceof Set)
      for (const item of value.entries()) queue.push([`${path}[]`, item]);
    for (
      let holder: object | null = value;
      holder !== null;
      holder = Object.getPrototypeOf(holder) as object | null
    ) {
      queue.push([`${path}.__proto__`, holder]);
      for (const key of Reflect.ownKeys(holder)) {
        const descriptor = Object.getOwnPropertyDescriptor(holder, key);
        queue.push([`${path}.${String(key)}`, descriptor?.value]);
        if (descriptor?.get === undefined) continue;
        try {
          queue.push([`${path}.${String(key)}`, Reflect.get(holder, key, value)]);
        } catch {
          // A getter that is not for this object.
        }
      }
    }
  }
  return { waysOut, count: seen.size };
}
