/** What is kept of one tenant is of no use on behalf of another, and what JSON pollutes leads to no other tenant. */
import { TenantryError } from '../../../domain/errors.js';
import type { TenantId } from '../../../domain/ids.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName } from '../../../domain/names.js';
import { enterTenant, outsideTenants, type Tenant } from '../../../tenancy/context/tenant-context.js';
import type { ScopedMongo } from '../../../tenancy/mongo/scoped.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let tenants: Tenants;
let [acme, other] = ['', ''] as unknown as [TenantId, TenantId];
let mongo: ScopedMongo;
type Transcripts = ReturnType<typeof mongo.collection<'transcripts'>>;
let transcripts: Transcripts;
beforeAll(async () => {
  tenants = createTenants();
  [acme, other] = (await tenants.make(2)) as [TenantId, TenantId];
  mongo = tenants.open().forTenant(contextOf(acme));
  transcripts = mongo.collection('transcripts');
  await transcripts.insertMany(Array.from({ length: 6 }, () => transcript('own')));
  const theirs = tenants.admin.db(mongoDatabaseName(other)).collection('transcripts');
  await theirs.insertOne(transcript('secret'));
});
afterAll(() => tenants.close());

/** The stores are not asked for here. */
const as = <T>(id: TenantId, work: () => T): T => enterTenant(contextOf(id) as Tenant, work);
const nested = { code: 'NESTED_TENANT_CONTEXT' };

describe('kept from one tenant and used as another', () => {
  it.each<[string, (kept: Transcripts) => Promise<unknown>]>([
    ['a read', (kept) => kept.findOne({})],
    ['a write', (kept) => kept.insertOne(transcript())],
    ['a bulk', (kept) => kept.bulkWrite([{ insertOne: { document: transcript() } }])],
    ['a cursor of it', (kept) => kept.find().next()],
    ['all of a cursor', (kept) => kept.aggregate([]).toArray()],
  ])('a collection refuses %s', async (_, use) => {
    await expect(as(other, () => use(transcripts))).rejects.toMatchObject(nested);
    await as(acme, () => use(transcripts));
    await outsideTenants(() => use(transcripts));
    await use(transcripts);
  });

  it('a cursor goes on for its own tenant alone, with what it has read as with what is still to come', async () => {
    const cursor = as(acme, () => transcripts.find({}, { batchSize: 2 }));
    expect(await as(acme, () => cursor.next())).toMatchObject({ text: 'own' });
    for (let i = 0; i < 4; i++) await expect(as(other, () => cursor.next())).rejects.toMatchObject(nested);
    await expect(as(other, () => cursor.toArray())).rejects.toMatchObject(nested);
    await as(acme, () => cursor.close());
  });

  it('a transaction neither begins nor goes on', async () => {
    const none = (): Promise<never> => Promise.reject(new Error('it began'));
    await expect(as(other, () => mongo.withTransaction(none))).rejects.toMatchObject(nested);
    const within = as(acme, () =>
      mongo.withTransaction((transaction) => {
        const own = transaction.collection('transcripts');
        // As code would that is called back by something that tenants share.
        return outsideTenants(() => as(other, () => own.findOne({})));
      }),
    );
    await expect(within).rejects.toMatchObject(nested);
  });
});

describe('a prototype of all objects that JSON has polluted', () => {
  // As in a cell that does not enforce: there is no lock but this one.
  beforeAll(async () => {
    await tenants.admin.db(mongoDatabaseName(acme)).command({
      grantRolesToUser: mongoUserName(acme),
      roles: [{ role: 'readWriteAnyDatabase', db: 'admin' }],
    });
  });
  afterAll(async () => {
    await tenants.admin.db(mongoDatabaseName(acme)).command({
      updateUser: mongoUserName(acme),
      roles: [{ role: MONGO_ROLE, db: mongoDatabaseName(acme) }],
    });
  });

  it.each(['dbName', 'authdb'])('sends no statement to the database that its %s names', async (name) => {
    const [distinct, changed, removed, counted] = await polluted({ [name]: mongoDatabaseName(other) }, () =>
      Promise.all([
        transcripts.distinct('text'),
        transcripts.findOneAndUpdate({ text: 'secret' }, { $set: { seen: true } }),
        transcripts.findOneAndDelete({ text: 'secret' }, {}),
        transcripts.estimatedDocumentCount(),
        transcripts.find().limit(1).toArray(),
        transcripts.aggregate([{ $limit: 1 }]).toArray(),
      ]),
    );
    expect(distinct).not.toContain('secret');
    expect([changed, removed]).toEqual([null, null]);
    expect(counted).toBeGreaterThan(1);
  });

  it('adds no $out to a pipeline', async () => {
    await polluted({ out: 'stolen' }, () => transcripts.aggregate([{ $limit: 1 }]).toArray());
    const names = await tenants.admin
      .db(mongoDatabaseName(acme))
      .listCollections({}, { nameOnly: true })
      .toArray();
    expect(names.map(({ name }) => name)).not.toContain('stolen');
  });
});

async function polluted<T>(names: Record<string, unknown>, work: () => Promise<T>): Promise<T> {
  const prototype = Object.prototype as unknown as Record<string, unknown>;
  Object.assign(prototype, names);
  try {
    return await work();
  } finally {
    for (const name of Object.keys(names)) delete prototype[name];
  }
}

it('what only looks like a signal is none, also for a transaction', async () => {
  const heard: unknown[] = [];
  const like = Object.create(AbortSignal.prototype, {
    aborted: { value: false },
    addEventListener: { value: (...given: unknown[]) => heard.push(given) },
    throwIfAborted: { value: () => undefined },
  }) as AbortSignal;
  const refused = { code: 'STATEMENT_REFUSED' };
  await expect(transcripts.findOne({}, { signal: like })).rejects.toMatchObject(refused);
  await expect(mongo.withTransaction(() => Promise.resolve(1), { signal: like })).rejects.toMatchObject(
    refused,
  );
  expect(heard).toEqual([]);
});

it('a transaction of a tenant that was suspended meanwhile says so', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const askAccess = (): never => {
    throw new TenantryError('TENANT_SUSPENDED', { mode: 'blocked' });
  };
  const own = tenants.open({ askAccess }).forTenant(contextOf(id));
  await tenants.admin.db(mongoDatabaseName(id)).command({ updateRole: MONGO_ROLE, privileges: [] });
  await expect(
    own.withTransaction((transaction) => transaction.collection('transcripts').findOne({})),
  ).rejects.toMatchObject({ code: 'TENANT_SUSPENDED', params: { mode: 'blocked' } });
});
