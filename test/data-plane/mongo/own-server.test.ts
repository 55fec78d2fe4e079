/** On a server of its own: its connections are counted, it is killed, paused and started again. */
import { rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { TenantId } from '../../../domain/ids.js';
import { startMongo } from '../../../local/mongo.js';
import { silentReport } from '../../../local/report.js';
import type { RunningServer } from '../../../local/server.js';
import type { ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { serverFolder } from '../../support/folder.js';
import { ownEnv } from '../../support/servers.js';
import { until } from '../../support/until.js';
import { contextOf, createTenants, type Tenants, transcript } from './support/tenants.js';

let directory: string;
let mongo: RunningServer;
let tenants: Tenants;
let ids: TenantId[];
beforeAll(async () => {
  directory = await serverFolder('scoped');
  mongo = await startMongo({ dataDir: directory, report: silentReport, env: ownEnv() });
  tenants = createTenants(mongo.url);
  ids = await tenants.make(30);
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
afterAll(async () => {
  await tenants.close();
  await mongo.kill();
  await rm(directory, { recursive: true, force: true });
});

const collectionOf = (pool: ScopedMongoPool, id: TenantId) =>
  pool.forTenant(contextOf(id)).collection('transcripts');

it('serves 30 tenants over 4 clients without a failure, its connections under the bound', async () => {
  const pool = tenants.open({ maxClients: 4, poolSizePerClient: 2, waitMs: 30_000 });
  const caller = async (id: TenantId): Promise<void> => {
    const transcripts = collectionOf(pool, id);
    for (let round = 0; round < 3; round++) {
      expect((await transcripts.findOne({}))?.['conversationId']).toBe(id);
      expect(await transcripts.find({}, { batchSize: 4 }).toArray()).toHaveLength(9);
      let seen = 0;
      for await (const { conversationId } of transcripts.find({}, { batchSize: 4 })) {
        expect(conversationId).toBe(id);
        seen++;
      }
      expect(seen).toBe(9);
    }
  };
  const peak = await peakOf(pool, Promise.all(ids.map(caller)));
  const { connectionBound, evicted, clients } = pool.stats();
  expect(connectionBound).toBe(12);
  expect(peak.pool).toBeLessThanOrEqual(connectionBound);
  // The server may see a moment later that a client has hung up.
  expect(peak.server).toBeLessThanOrEqual(connectionBound + 3);
  expect(clients).toBeLessThanOrEqual(4);
  expect(evicted).toBeGreaterThanOrEqual(26);
  await pool.close();
  expect(pool.stats()).toMatchObject({ clients: 0, leases: 0, connections: 0 });
});

it('goes on when the server was killed under traffic: failures say so, and none is left after', async () => {
  const pool = tenants.open({ maxClients: 8, serverSelectionMs: 10_000 });
  const failures: unknown[] = [];
  const traffic = { runs: true };
  const served = new Set<string>();
  let started = false;
  const forever = async (id: TenantId, write: boolean): Promise<void> => {
    const transcripts = collectionOf(pool, id);
    while (traffic.runs) {
      const work = write
        ? transcripts.insertOne(transcript('more'))
        : transcripts.find({}, { batchSize: 3 }).toArray();
      await work.then(
        () => {
          if (started) served.add(`${id} ${write}`);
        },
        (error: unknown) => failures.push(error),
      );
      await pause(5);
    }
  };
  const callers = Promise.all(ids.slice(0, 6).flatMap((id) => [forever(id, false), forever(id, true)]));
  await pause(300);
  await mongo.kill();
  await pause(300);
  await mongo.start();
  started = true;
  await until('everybody is served again', () => served.size === 12);
  const before = failures.length;
  await pause(500);
  traffic.runs = false;
  await callers;
  for (const failure of failures) expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE' });
  expect(failures.length).toBe(before);
  expect(pool.stats().leases).toBe(0);
});

it('says of a cursor that did not live through a restart that the store was away, and finds all when asked anew', async () => {
  const pool = tenants.open({ serverSelectionMs: 10_000 });
  const transcripts = collectionOf(pool, ids[0] as TenantId);
  const cursor = transcripts.find({}, { batchSize: 3 });
  await cursor.next();
  await mongo.kill();
  await mongo.start();
  const rest = cursor.toArray();
  await expect(rest).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    cause: { codeName: 'CursorNotFound' },
  });
  expect((await transcripts.find({}, { batchSize: 3 }).toArray()).length).toBeGreaterThanOrEqual(9);
});

it('does not wait for ever for a server that says nothing', async () => {
  const pool = tenants.open({ socketTimeoutMs: 400, serverSelectionMs: 800, maxClients: 2 });
  const id = ids[0] as TenantId;
  const transcripts = collectionOf(pool, id);
  await transcripts.findOne({});
  mongo.pause();
  try {
    await expect(transcripts.insertOne(transcript())).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    // By its signal, and not by the driver's time-out, which comes later.
    await expect(transcripts.findOne({}, { signal: AbortSignal.timeout(100) })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
    await expect(collectionOf(pool, ids[1] as TenantId).findOne({})).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
    });
  } finally {
    mongo.resume();
  }
  for (const tenant of ids.slice(0, 2))
    await until('it serves again', () =>
      collectionOf(pool, tenant)
        .findOne({})
        .catch(() => null),
    );
});

/** The highest counts that the server and the pool have told while `work` ran. */
async function peakOf(
  pool: ScopedMongoPool,
  work: Promise<unknown>,
): Promise<{ server: number; pool: number }> {
  const before = await connectionsNow();
  const peak = { server: 0, pool: 0 };
  const watching = { runs: true };
  const watch = (async () => {
    while (watching.runs) {
      peak.server = Math.max(peak.server, (await connectionsNow()) - before);
      peak.pool = Math.max(peak.pool, pool.stats().connections);
      await pause(10);
    }
  })();
  try {
    await work;
  } finally {
    watching.runs = false;
    await watch;
  }
  return peak;
}

async function connectionsNow(): Promise<number> {
  const { connections } = await tenants.admin.db('admin').command({ serverStatus: 1 });
  return (connections as { current: number }).current;
}
