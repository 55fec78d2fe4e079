/** Bulks, which the driver sends in batches: one may fail after others are done. */
import { type BulkWriteResult, MongoBulkWriteError, MongoServerError } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { bulkFailure } from '../../../tenancy/mongo/bulk-failure.js';
import { createRetries } from '../../../tenancy/mongo/refused-login.js';
import {
  contextOf,
  createTenants,
  createTenantsBehindLink,
  type Tenants,
  transcript,
} from './support/tenants.js';

let tenants: Tenants;
let ids: TenantId[];
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(3);
});
afterAll(() => tenants.close());

const id = (position: number): TenantId => ids[position] as TenantId;

/** Of two kinds by turns, so that each operation is a batch of its own. */
const manyBatches = (count: number) =>
  Array.from({ length: count }, (_, i) => [
    { updateOne: { filter: { kind: `${i}` }, update: { $inc: { times: 1 } } } },
    { deleteOne: { filter: { kind: 'none' } } },
  ]).flat();

it('a rotation in the middle of a bulk loses nothing of it and does nothing twice', async () => {
  const pool = tenants.open({ recheckMs: 60_000 });
  const mongo = pool.forTenant(contextOf(id(0)));
  const events = mongo.collection('events');
  const [count, at] = [150, new Date()];
  await events.insertMany(Array.from({ length: count }, (_, i) => ({ kind: `${i}`, at })));
  const { publish } = await tenants.rotate(id(0));
  publish();
  const bulk = events.bulkWrite(manyBatches(count));
  // They need more connections than are there, and log in with the old password.
  await Promise.all(Array.from({ length: 6 }, () => events.findOne({})));
  expect(await bulk).toMatchObject({ matchedCount: count, modifiedCount: count });
  expect(await events.countDocuments({ times: 1 })).toBe(count);
});

it('a rotation loses no bulk that waits for a connection while the old password is refused', async () => {
  const pool = tenants.open({ maxClients: 1, credentials: await tenants.rotateUnheard(id(1)) });
  await pool
    .forTenant(contextOf(id(0)))
    .collection('transcripts')
    .findOne({});
  const transcripts = pool.forTenant(contextOf(id(1))).collection('transcripts');
  // The first log in, the others wait for what becomes of that.
  const written = Array.from({ length: 9 }, (_, i) => transcripts.insertMany([transcript(`${i}`)]));
  expect(await Promise.all(written)).toHaveLength(9);
  expect(await transcripts.countDocuments()).toBe(9);
});

it.each([
  [0, true],
  [1, false],
])('one whose login is refused after %i updates is sent again: %s', (matchedCount, isSentAgain) => {
  const done = { insertedCount: 0, matchedCount, deletedCount: 0, upsertedCount: 0 } as BulkWriteResult;
  const refusal = new MongoServerError({ code: 18, errmsg: 'Authentication failed.' });
  expect(createRetries(1_000)(bulkFailure(new MongoBulkWriteError(refusal, done)))).toBe(isSentAgain);
});

it('a bulk whose answer does not come is one whose server cannot be reached', async () => {
  const { link, tenants: through, close } = await createTenantsBehindLink();
  try {
    const [tenantId] = (await through.make(1)) as [TenantId];
    const pool = through.open({ serverSelectionMs: 1_000, socketTimeoutMs: 500 });
    const transcripts = pool.forTenant(contextOf(tenantId)).collection('transcripts');
    for (const write of [
      () => transcripts.insertMany([transcript()]),
      () => transcripts.bulkWrite([{ insertOne: { document: transcript() } }]),
    ]) {
      await transcripts.findOne({});
      link.holdAnswers();
      await expect(write()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    }
  } finally {
    await close();
  }
});
