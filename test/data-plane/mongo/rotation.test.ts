/** A tenant's password is rotated under traffic: no request is lost, whoever hears of it first. */
import { setTimeout as pause } from 'node:timers/promises';
import type { TenantId } from '../../../domain/ids.js';
import type { ScopedMongoOptions, ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { until } from '../../support/until.js';
import {
  contextOf,
  createTenants,
  createTenantsBehindLink,
  type Tenants,
  transcript,
} from './support/tenants.js';

let tenants: Tenants;
beforeAll(() => {
  tenants = createTenants();
});
afterAll(() => tenants.close());

async function underTraffic(
  options: Partial<ScopedMongoOptions>,
  rotate: (id: TenantId, pool: ScopedMongoPool) => Promise<void>,
): Promise<ScopedMongoPool> {
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ recheckMs: 50, maxClients: 4, ...options });
  const mongo = pool.forTenant(contextOf(id));
  const transcripts = mongo.collection('transcripts');
  await transcripts.insertMany(Array.from({ length: 40 }, (_, i) => transcript(`${i}`)));
  const traffic = { runs: true };
  let done = 0;
  const failures: unknown[] = [];
  const forever = async (work: () => Promise<unknown>): Promise<void> => {
    while (traffic.runs) {
      await work().catch((error: unknown) => failures.push(error));
      done++;
    }
  };
  const slowly = async (): Promise<void> => {
    let seen = 0;
    for await (const _ of transcripts.find({ conversationId: 'c1' }, { batchSize: 5 })) {
      seen++;
      if (seen % 5 === 0) await pause(15);
    }
    expect(seen).toBe(40);
  };
  const callers = Promise.all([
    forever(() => transcripts.findOne({})),
    forever(() => transcripts.findOne({})),
    forever(() => transcripts.insertOne(transcript('more', 'c2'))),
    forever(slowly),
    forever(slowly),
    forever(() => transcripts.find({ conversationId: 'c1' }, { batchSize: 10 }).toArray()),
    forever(() => transcripts.aggregate([{ $match: { conversationId: 'c1' } }], { batchSize: 7 }).toArray()),
    forever(() =>
      mongo.withTransaction(async (transaction) => {
        await transaction.collection('events').insertOne({ kind: 'tx', at: new Date() });
        await transaction.collection('events').findOne({});
      }),
    ),
    // Now more at once, now less: connections are wanted that are not there yet.
    forever(async () => {
      await Promise.all(Array.from({ length: 6 }, () => transcripts.findOne({})));
      await pause(20);
    }),
  ]);
  const goesOn = async (): Promise<void> => {
    const before = done;
    await until('the traffic goes on', () => done > before + 30);
  };
  await goesOn();
  await rotate(id, pool);
  await goesOn();
  traffic.runs = false;
  await callers;
  expect(failures).toEqual([]);
  expect(pool.stats().leases).toBe(0);
  return pool;
}

describe('a rotation under traffic', () => {
  it('loses no request when it is heard of at once, five times', async () => {
    const pool = await underTraffic({}, async (id) => {
      for (let i = 0; i < 5; i++) {
        const { publish } = await tenants.rotate(id);
        publish();
        await pause(200);
      }
    });
    expect(pool.stats().opened).toBeGreaterThanOrEqual(4);
  });

  it('loses no request when it is heard of late: the new password is there, and nobody has said so', async () => {
    await underTraffic({ recheckMs: 60_000 }, async (id) => {
      for (let i = 0; i < 3; i++) {
        const { publish } = await tenants.rotate(id);
        publish();
        await pause(250);
      }
    });
  });

  it('loses no request while the old password is still handed out', async () => {
    await underTraffic({}, async (id, pool) => {
      const { publish } = await tenants.rotate(id);
      const cold = tenants.open();
      const asked = cold.forTenant(contextOf(id)).collection('transcripts').findOne({});
      await pause(1_000);
      publish();
      expect(await asked).not.toBeNull();
      await pause(300);
      expect(pool.stats().opened).toBeGreaterThanOrEqual(2);
    });
  });

  it('loses no request with a place for one client only', async () => {
    await underTraffic({ maxClients: 1 }, async (id) => {
      const { publish } = await tenants.rotate(id);
      await pause(200);
      publish();
      await pause(300);
    });
  });
});

it('an open cursor goes on over a connection that is made after a rotation', async () => {
  const { link, tenants: through, close } = await createTenantsBehindLink();
  try {
    const [id] = (await through.make(1)) as [TenantId];
    const pool = through.open({ poolSizePerClient: 1, recheckMs: 60_000 });
    const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
    await transcripts.insertMany(Array.from({ length: 10 }, (_, i) => transcript(`${i}`)));
    const cursor = transcripts.find({}, { batchSize: 5 });
    expect(await cursor.next()).not.toBeNull();
    const { publish } = await through.rotate(id);
    publish();
    link.cut();
    // Over a connection that is made now, as what the cursor asks for will be.
    expect(await transcripts.findOne({})).not.toBeNull();
    expect(await cursor.toArray()).toHaveLength(9);
    expect(pool.stats().opened).toBe(1);
  } finally {
    await close();
  }
});
