/**
 * The second lock. Each way out is refused before it is sent; and with the guard off the server refuses it by itself,
 * except for those that are named here.
 */
import type { Document } from 'mongodb';
import { TenantryError } from '../../../domain/errors.js';
import type { TenantId } from '../../../domain/ids.js';
import { mongoDatabaseName } from '../../../domain/names.js';
import type { ScopedMongo } from '../../../tenancy/mongo/scoped.js';
import { testStack } from '../../support/stack.js';
import { contextOf, createTenants, noGuard, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let [own, other] = ['', ''];
let guarded: ScopedMongo;
let open: ScopedMongo;
beforeAll(async () => {
  tenants = createTenants();
  const [mine, theirs] = (await tenants.make(2)) as [TenantId, TenantId];
  [own, other] = [mongoDatabaseName(mine), mongoDatabaseName(theirs)];
  guarded = tenants.open().forTenant(contextOf(mine));
  open = tenants.open({}, noGuard).forTenant(contextOf(mine));
  for (const db of [own, other]) {
    await tenants.admin.db(db).collection('transcripts').insertOne(transcript());
    await tenants.admin.db(db).collection('undeclared').insertOne({ secret: 1 });
  }
});
afterAll(async () => {
  for (const db of [own, other]) await tenants.admin.db(db).dropCollection('undeclared');
  await tenants.close();
});

/** Collections that the manifest does not declare are no type error in the sample, whose literal is not known here. */
type Attempt = (mongo: ScopedMongo) => Promise<unknown>;
const pipeline =
  (...stages: (() => Document)[]): Attempt =>
  (mongo) =>
    mongo
      .collection('transcripts')
      .aggregate(
        stages.map((stage) => stage()),
        // A change stream has no end; that it began is answer enough.
        { signal: AbortSignal.timeout(1_500) },
      )
      .toArray();
const filter =
  (value: Document): Attempt =>
  (mongo) =>
    mongo.collection('transcripts').find(value).toArray();

const lookup = (from: unknown, inner: Document[] = []): Document => ({
  $lookup: { from, pipeline: inner, as: 'found' },
});
const graph = (from: string): Document => ({
  $graphLookup: { from, startWith: '$_id', connectFromField: '_id', connectToField: '_id', as: 'found' },
});
const SCRIPT = { body: 'function () { return true }', args: [], lang: 'js' };
const COUNTER = {
  init: 'function () { return 0 }',
  accumulate: 'function (n) { return n + 1 }',
  accumulateArgs: [],
  merge: 'function (a, b) { return a + b }',
  lang: 'js',
};

/** Ways to other data: a server that enforces refuses every one. */
const CROSSING: Record<string, Attempt> = {
  'an undeclared collection': (mongo) => mongo.collection('undeclared').findOne({}),
  'a system collection': (mongo) => mongo.collection('system.views').findOne({}),
  'an insert into an undeclared collection': (mongo) => mongo.collection('undeclared').insertOne({ a: 1 }),
  '$lookup of an undeclared collection': pipeline(() => lookup('undeclared')),
  "$lookup in another's database": pipeline(() => lookup({ db: other, coll: 'transcripts' })),
  '$lookup in $lookup': pipeline(
    () => lookup('events', [lookup('undeclared')]),
    () => lookup('undeclared'),
  ),
  '$lookup in $facet': pipeline(() => ({ $facet: { a: [lookup('undeclared')] } })),
  '$lookup in $unionWith': pipeline(() => ({
    $unionWith: { coll: 'transcripts', pipeline: [lookup('undeclared')] },
  })),
  '$graphLookup of an undeclared collection': pipeline(() => graph('undeclared')),
  '$unionWith an undeclared collection': pipeline(() => ({ $unionWith: 'undeclared' })),
  '$unionWith an undeclared collection, as a document': pipeline(() => ({
    $unionWith: { coll: 'undeclared' },
  })),
  "$unionWith another's database": pipeline(() => ({ $unionWith: { db: other, coll: 'transcripts' } })),
  '$out to an undeclared collection': pipeline(() => ({ $out: 'undeclared' })),
  "$out to another's database": pipeline(() => ({ $out: { db: other, coll: 'transcripts' } })),
  '$merge into an undeclared collection': pipeline(() => ({ $merge: 'undeclared' })),
  '$merge into an undeclared collection, as a document': pipeline(() => ({ $merge: { into: 'undeclared' } })),
  "$merge into another's database": pipeline(() => ({
    $merge: { into: { db: other, coll: 'transcripts' } },
  })),
  $currentOp: pipeline(() => ({ $currentOp: { allUsers: true } })),
  $listSessions: pipeline(() => ({ $listSessions: { allUsers: true } })),
  $listLocalSessions: pipeline(() => ({ $listLocalSessions: { allUsers: true } })),
  $collStats: pipeline(() => ({ $collStats: { storageStats: {} } })),
  $indexStats: pipeline(() => ({ $indexStats: {} })),
  $planCacheStats: pipeline(() => ({ $planCacheStats: {} })),
  $queryStats: pipeline(() => ({ $queryStats: {} })),
  $listSearchIndexes: pipeline(() => ({ $listSearchIndexes: {} })),
  $changeStream: pipeline(() => ({ $changeStream: {} })),
  '$documents where a collection is read': pipeline(() => ({ $documents: [{ a: 1 }] })),
  'a stage that nobody knows': pipeline(() => ({ $notYetInvented: { from: 'undeclared' } })),
};

/**
 * Code in the server. It sees the tenant's own documents only, so MongoDB lets it run where `security.javascriptEnabled`
 * is on, which is the default.
 */
const CODE: Record<string, Attempt> = {
  $where: filter({ $where: 'true' }),
  '$where in $or': filter({ $or: [{ a: 1 }, { $nor: [{ $where: 'true' }] }] }),
  '$function in $expr': filter({ $expr: { $function: SCRIPT } }),
  '$function in $project': pipeline(() => ({ $project: { a: { $function: SCRIPT } } })),
  '$function in an update': (mongo) =>
    mongo.collection('transcripts').updateOne({}, [{ $set: { text: { $function: SCRIPT } } }]),
  '$accumulator in $group': pipeline(() => ({ $group: { _id: null, n: { $accumulator: COUNTER } } })),
  '$where in $match': pipeline(() => ({ $match: { $where: 'true' } })),
  '$where in a deletion': (mongo) => mongo.collection('transcripts').deleteMany({ $where: 'false' }),
};

describe('with the guard', () => {
  it.each(Object.entries({ ...CROSSING, ...CODE }))('refuses %s', async (_name, attempt) => {
    await expect((async () => attempt(guarded))()).rejects.toMatchObject({
      code: 'STATEMENT_REFUSED',
      params: { store: 'MongoDB' },
    });
  });
});

describe('without the guard', () => {
  const enforces = testStack().mongoEnforcement === 'server';

  it.each(Object.entries(CROSSING))('the server refuses %s', async (name, attempt) => {
    const answer = await answerOf(attempt);
    if (!enforces && OPEN_IN_FALLBACK.has(name)) expect(answer).toBe('let through');
    else expect(answer).toBe('STORE_REFUSED');
  });

  it.each(Object.entries(CODE))(
    '%s runs where the server has JavaScript, and is refused elsewhere',
    async (_name, attempt) => {
      const answer = await answerOf(attempt);
      if (await hasJavaScript()) expect(answer).toBe('let through');
      else expect(answer).toBe('STORE_REFUSED');
    },
  );
});

async function answerOf(attempt: Attempt): Promise<string> {
  try {
    await attempt(open);
    return 'let through';
  } catch (error) {
    return error instanceof TenantryError ? error.code : 'let through';
  }
}

/** The stand-ins for MongoDB have none. */
async function hasJavaScript(): Promise<boolean> {
  const { javascriptEngine } = await tenants.admin.db('admin').command({ buildInfo: 1 });
  return typeof javascriptEngine === 'string' && javascriptEngine !== 'none';
}

/**
 * Holes of the embedded fallback (SecantusDB in Python): a privilege on one collection opens its whole database, and no
 * stage that shows the server's own state asks for a privilege. Never another tenant's database.
 */
const OPEN_IN_FALLBACK = new Set([
  'an undeclared collection',
  'a system collection',
  'an insert into an undeclared collection',
  '$lookup of an undeclared collection',
  '$lookup in $lookup',
  '$lookup in $facet',
  '$lookup in $unionWith',
  '$graphLookup of an undeclared collection',
  '$unionWith an undeclared collection',
  '$unionWith an undeclared collection, as a document',
  '$out to an undeclared collection',
  '$merge into an undeclared collection',
  '$merge into an undeclared collection, as a document',
  '$currentOp',
  '$listSessions',
  '$listLocalSessions',
  '$collStats',
  '$indexStats',
  '$changeStream',
]);
