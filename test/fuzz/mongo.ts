/** What actors do in MongoDB, each as the tenant's own user: documents, cursors, pipelines, and ways out of the database. */
import { type Document, MongoServerError } from 'mongodb';
import { mongoDatabaseName } from '../../domain/names.js';
import type { ScopedCollection } from '../../tenancy/mongo/scoped-collection.js';
import { openTenantClient } from '../../tenancy/mongo/tenant-client.js';
import type { Rule, Seen } from './referee.js';
import { ABORTED, type Scene } from './scene.js';
import { ANCHOR } from './stage.js';

interface MongoCall extends Omit<Rule, 'store'> {
  readonly weight: number;
  send(collection: Collection, scene: Scene): Promise<unknown>;
}

/** With ids that are the product's own. */
type Collection = ScopedCollection<Document & { _id: string }>;

const COLLECTION = 'transcripts';

export async function playMongo(scene: Scene): Promise<void> {
  const { random, subject, tenant } = scene;
  if (random.chance(0.02) && subject.cell.cell.mongoEnforcement === 'server') return playPastTheGuard(scene);
  const calls = Array.from({ length: 8 + random.below(9) }, () => random.weighted(CALLS));
  const collection = tenant.mongo.collection(COLLECTION) as unknown as Collection;
  await Promise.all(
    calls.map(({ weight: _weight, send, ...rule }) =>
      scene.attempt({ ...rule, store: 'mongo' }, async () => seenIn(await send(collection, scene))),
    ),
  );
}

/** A call that is answered at all was let in; only of what must see nothing does the count say how much. */
function seenIn(values: unknown): Seen {
  if (typeof values === 'number') return { values, count: values };
  return { values, count: values === null || (Array.isArray(values) && values.length === 0) ? 0 : 1 };
}

const id = ({ random }: Scene): string => `d${random.below(10)}`;
const document = (scene: Scene) => ({
  conversationId: 'shared',
  text: scene.value(),
  createdAt: new Date(),
});
const theirs = ({ other }: Scene): string => mongoDatabaseName(other.tenantId);

const OWN: readonly MongoCall[] = [
  {
    kind: 'findOne',
    weight: 20,
    must: 'see its own',
    send: (collection) => collection.findOne({ _id: ANCHOR.key }),
  },
  { kind: 'find', weight: 10, must: 'see its own', send: (collection) => collection.find().toArray() },
  {
    kind: 'cursor',
    weight: 5,
    must: 'see its own',
    async send(collection) {
      const found: unknown[] = [];
      for await (const one of collection.find({}, { batchSize: 2 })) found.push(one);
      return found;
    },
  },
  {
    kind: 'distinct',
    weight: 3,
    must: 'see its own',
    send: (collection) => collection.distinct('text' as never),
  },
  {
    kind: 'group',
    weight: 4,
    must: 'see its own',
    send: (collection) => collection.aggregate([{ $group: { _id: '$text', count: { $sum: 1 } } }]).toArray(),
  },
  {
    kind: 'lookup',
    weight: 3,
    must: 'see its own',
    send: (collection) =>
      collection
        .aggregate([
          { $match: { _id: ANCHOR.key } },
          {
            $lookup: {
              from: COLLECTION,
              localField: 'conversationId',
              foreignField: 'conversationId',
              as: 'all',
            },
          },
        ])
        .toArray(),
  },
  {
    kind: 'upsert',
    weight: 8,
    write: true,
    // Two at once: one of them finds the id taken.
    codes: ['STORE_REFUSED/code 11000 DuplicateKey', 'STORE_REFUSED/code 11000'],
    send: (collection, scene) =>
      collection.updateOne({ _id: id(scene) }, { $set: document(scene) }, { upsert: true }),
  },
  {
    kind: 'updateMany',
    weight: 3,
    write: true,
    send: (collection, scene) =>
      collection.updateMany({ _id: { $ne: ANCHOR.key } }, { $set: { text: scene.value() } }),
  },
  {
    kind: 'findOneAndUpdate',
    weight: 4,
    write: true,
    send: (collection, scene) =>
      collection.findOneAndUpdate(
        { _id: id(scene) },
        { $set: { text: scene.value() } },
        { returnDocument: 'after' },
      ),
  },
  {
    kind: 'deleteOne',
    weight: 3,
    write: true,
    send: (collection, scene) => collection.deleteOne({ _id: id(scene) }),
  },
  {
    kind: 'cancelled',
    weight: 3,
    codes: [ABORTED],
    send: (collection, scene) => collection.find({}, { signal: scene.abortSoon() }).toArray(),
  },
];

const ACROSS: readonly MongoCall[] = [
  {
    kind: "another's document",
    weight: 6,
    must: 'see nothing',
    send: (collection, { other }) => collection.findOne({ _id: other.tenantId }),
  },
  {
    kind: 'documents that are not its own',
    weight: 3,
    must: 'see nothing',
    send: (collection, { subject }) =>
      collection.countDocuments({ text: { $not: { $regex: `^of:${subject.tenantId}` } } }),
  },
  {
    kind: 'pipeline into another database',
    weight: 6,
    must: 'be refused',
    codes: ['STATEMENT_REFUSED'],
    send(collection, scene) {
      const [db, coll] = [theirs(scene), COLLECTION];
      const as = 'theirs';
      const stage: Document = scene.random.pick<Document>([
        { $lookup: { from: { db, coll }, pipeline: [], as } },
        { $lookup: { from: `${db}.${coll}`, pipeline: [], as } },
        { $unionWith: { db, coll } },
        { $unionWith: { coll, pipeline: [{ $unionWith: { db, coll } }] } },
        { $facet: { theirs: [{ $lookup: { from: { db, coll }, pipeline: [], as } }] } },
        {
          $graphLookup: { from: { db, coll }, startWith: 1, connectFromField: 'a', connectToField: 'b', as },
        },
        { $out: { db, coll } },
        { $merge: { into: { db, coll } } },
        { $listLocalSessions: {} },
      ]);
      return collection.aggregate([stage]).toArray();
    },
  },
  {
    kind: 'code in the server',
    weight: 2,
    must: 'be refused',
    codes: ['STATEMENT_REFUSED'],
    send: (collection, { random }) =>
      collection
        .find(
          random.pick<Document>([
            { $where: 'true' },
            { $expr: { $function: { body: 'function() { return true }', args: [], lang: 'js' } } },
          ]),
        )
        .toArray(),
  },
  {
    kind: 'undeclared collection',
    weight: 2,
    must: 'be refused',
    codes: ['STATEMENT_REFUSED'],
    send: async (_collection, scene) =>
      scene.tenant.mongo
        .collection(
          scene.random.pick([`${theirs(scene)}.${COLLECTION}`, 'system.users', 'system.profile', '$cmd']),
        )
        .findOne({}),
  },
];

const CALLS: readonly MongoCall[] = [...OWN, ...ACROSS];

/** Unauthorized, or a login with a password that was just rotated. */
const REFUSED = ['code 13', 'code 18'];

/** As the tenant's own user and with nothing of ours in between: what the server itself refuses. */
async function playPastTheGuard(scene: Scene): Promise<void> {
  const { subject } = scene;
  const client = openTenantClient(subject.cell.mongoUrl, subject.tenantId, subject.passwords.mongo.value);
  const foreign = client.db(theirs(scene)).collection<Document & { _id: string }>(COLLECTION);
  const own = client.db(mongoDatabaseName(subject.tenantId)).collection(COLLECTION);
  const from = { db: theirs(scene), coll: COLLECTION };
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    find: () => foreign.find().toArray(),
    count: () => foreign.countDocuments(),
    insert: () => foreign.insertOne({ _id: scene.random.uuid(), ...document(scene) }),
    update: () => foreign.updateOne({ _id: ANCHOR.key }, { $set: { text: scene.value() } }),
    $out: () => own.aggregate([{ $out: from }]).toArray(),
    usersInfo: () => client.db(theirs(scene)).command({ usersInfo: 1 }),
  };
  const past = (kind: string, must: Rule['must'], work: () => Promise<Seen>): Promise<unknown> =>
    scene.attempt({ store: 'mongo', kind: `past the guard: ${kind}`, must, codes: REFUSED }, work);
  try {
    for (const [kind, call] of Object.entries(calls))
      await past(kind, 'be refused', async () => ({ values: await call().catch(named), count: 1 }));
    // A user may ask, and is told of what it has rights in.
    await past('listDatabases', 'see nothing', async () => {
      const list = await client.db('admin').command({ listDatabases: 1, nameOnly: true }).catch(named);
      const names = (list['databases'] as { name: string }[]).map(({ name }) => name);
      return { values: undefined, count: names.filter((name) => name !== own.dbName).length };
    });
  } finally {
    await client.close();
  }
}

function named(error: unknown): never {
  if (!(error instanceof MongoServerError)) throw error;
  throw Object.assign(new Error('refused by MongoDB itself', { cause: error }), {
    name: `code ${String(error.code)}`,
  });
}
