// MongoDB through the data plane against the raw driver: one tenant on the same number of connections, and a thousand
// tenants over a hundred clients.

import { MongoClient } from 'mongodb';
import { cellName, newTenantId, type TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { newPassword } from '../../keys/sealed-secret.js';
import supportDesk from '../../manifest/support-desk.js';
import { mongoUrlWithoutCredentials } from '../../tenancy/cell-connections.js';
import type { TenantCredential } from '../../tenancy/context/cell-servers.js';
import type { TenantContext } from '../../tenancy/context/tenant-context.js';
import { collectionLayouts } from '../../tenancy/mongo/layout.js';
import { createScopedMongo, type ScopedMongoPool } from '../../tenancy/mongo/scoped.js';
import { ensureTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { atOnce, type Benchmark, type Figure, figure, inTurn, timed } from '../harness.js';
import { withServers } from '../servers.js';

export interface MongoBenchOptions {
  /** As an administrator. */
  readonly mongoUrl: string;
  readonly say: (line: string) => void;
  readonly tenants?: number;
  readonly clients?: number;
  /** The tenants that get 99 % of the calls. */
  readonly hot?: number;
  /** Calls of each sample: so many that its end, when fewer and fewer callers are left, is little of it. */
  readonly calls?: number;
  readonly rounds?: number;
}

/** Callers at once, on so many connections. */
const CALLERS = 8;
/** In the crowd: enough that one who waits for a login does not keep the rest from being served. */
const CROWD = 32;

export async function measureMongo(options: MongoBenchOptions): Promise<Record<string, Figure>> {
  const { mongoUrl, say, tenants = 1_000, clients = 100, hot = 80, calls = 10_000, rounds = 7 } = options;
  const admin = new MongoClient(mongoUrl, { maxPoolSize: 8 });
  const passwords = new Map<TenantId, TenantCredential>();
  const layouts = collectionLayouts(supportDesk);
  say(`making ${tenants} tenants`);
  const ids = Array.from({ length: tenants }, newTenantId);
  await atOnce(8, ids, async (tenantId) => {
    const credential = { version: 1, password: newPassword() };
    passwords.set(tenantId, credential);
    await ensureTenantDatabase(admin, { tenantId, layouts }, credential.password);
    await admin
      .db(mongoDatabaseName(tenantId))
      .collection<{ _id: string }>('transcripts')
      .insertOne({ _id: 'one', ...DOCUMENT });
  });
  // Whether a tenant that comes back has its password salted already, as in a process that has run for a while.
  let haveAllBeenHere = true;
  const open = (maxClients: number, poolSizePerClient: number): ScopedMongoPool =>
    createScopedMongo({
      servers: { mongoUrl: mongoUrlWithoutCredentials(mongoUrl) },
      credentials: {
        get(tenantId) {
          const known = passwords.get(tenantId);
          if (known === undefined) return Promise.reject(new Error('no such tenant'));
          return Promise.resolve(haveAllBeenHere ? known : { ...known });
        },
      },
      manifest: supportDesk,
      maxClients,
      poolSizePerClient,
    });
  const [first] = ids as [TenantId];
  const raw = (poolSize: number): MongoClient =>
    new MongoClient(mongoUrlWithoutCredentials(mongoUrl), {
      auth: { username: mongoUserName(first), password: passwords.get(first)?.password ?? '' },
      authSource: mongoDatabaseName(first),
      authMechanism: 'SCRAM-SHA-256',
      maxPoolSize: poolSize,
      serverMonitoringMode: 'poll',
    });
  const one = { raw: raw(CALLERS), scoped: open(1, CALLERS), crowd: raw(CROWD) };
  const many = open(clients, POOL_OF_MANY);
  const beside = countConnections([admin, one.raw, one.crowd]);
  try {
    const direct = one.raw.db(mongoDatabaseName(first)).collection<{ _id: string }>('transcripts');
    const alone = one.crowd.db(mongoDatabaseName(first)).collection<{ _id: string }>('transcripts');
    const scoped = one.scoped.forTenant(contextOf(first)).collection('transcripts');
    const items = Array.from({ length: calls }, (_, call) => call);
    const sideOf = (work: () => Promise<unknown>, callers: number) => () =>
      timed(() => atOnce(callers, items, work));
    const sides = {
      raw: sideOf(() => direct.findOne({ _id: 'one' }), CALLERS),
      scoped: sideOf(() => scoped.findOne({ _id: 'one' }), CALLERS),
    };
    await inTurn(1, sides);
    say('scoped against raw');
    const pairs = await inTurn(rounds, sides);
    const scopedVsRaw = pairs.raw.map((time, round) => time / (pairs.scoped[round] ?? Number.NaN));

    say('many tenants against one client');
    // What watches its server is there before connections are counted, which takes it for one of the many's otherwise.
    await alone.findOne({ _id: 'one' });
    const watch = await watchConnections(admin, many, beside);
    const [warm, cold] = [ids.slice(0, hot), ids.slice(hot)];
    let [coldCalls, failed] = [0, 0];
    // Not the last call of a sample, which would be waited for alone.
    const pick = (call: number): TenantId =>
      (call % 100 === 49 && cold.length > 0 ? cold[coldCalls++ % cold.length] : anyOf(warm)()) as TenantId;
    const findOneOf = async (tenantId: TenantId): Promise<void> => {
      const tenant = many.forTenant(contextOf(tenantId));
      if ((await tenant.collection('transcripts').findOne({ _id: 'one' })) === null) failed++;
    };
    const amongMany = (tenantOf: (call: number) => TenantId, beenHere: boolean) => () => {
      haveAllBeenHere = beenHere;
      return timed(() => atOnce(CROWD, items, (call) => findOneOf(tenantOf(call))));
    };
    const crowd = {
      one: sideOf(() => alone.findOne({ _id: 'one' }), CROWD),
      many: amongMany(pick, true),
      new: amongMany(pick, false),
      warm: amongMany(anyOf(warm), true),
    };
    await atOnce(CROWD, ids, findOneOf);
    await inTurn(1, crowd);
    const crowded = await inTurn(rounds, crowd);
    const versusOne = (times: readonly number[]): number[] =>
      crowded.one.map((time, round) => time / (times[round] ?? Number.NaN));
    const logins = calls / 100;
    const loginTimes = (times: readonly number[]): number[] =>
      times.map((time, round) => (time - (crowded.warm[round] ?? Number.NaN)) / logins);
    const peak = await watch.end();
    const { connectionBound } = many.stats();
    if (failed > 0) throw new Error(`${failed} calls found nothing`);
    return {
      mongo_scoped_vs_raw: figure(scopedVsRaw, { is: '>=', value: 0.95 }),
      mongo_many_vs_one: figure(versusOne(crowded.many), { is: '>=', value: 0.8 }),
      mongo_many_new_vs_one: figure(versusOne(crowded.new)),
      mongo_many_warm_vs_one: figure(versusOne(crowded.warm)),
      mongo_login_ms: figure(loginTimes(crowded.many)),
      mongo_first_login_ms: figure(loginTimes(crowded.new)),
      mongo_connections_peak: figure([peak], { is: '<=', value: connectionBound }),
      mongo_raw_per_second: figure(pairs.raw.map((time) => (calls / time) * 1_000)),
    };
  } finally {
    await Promise.all([one.raw.close(), one.crowd.close(), one.scoped.close(), many.close(), admin.close()]);
  }
}

const benchmark: Benchmark = {
  name: 'data-plane-mongo',
  run: (say) =>
    withServers(['mongo'], async ({ urls, environment }) => ({
      figures: await measureMongo({ mongoUrl: urls.mongo, say }),
      environment,
    })),
};
export default benchmark;

const anyOf = (ids: readonly TenantId[]) => (): TenantId =>
  ids[Math.floor(Math.random() * ids.length)] as TenantId;

/**
 * With more tenants at work than callers, one call of a tenant seldom meets another, and waits a shorter time for it than a
 * login takes. Each further connection costs the server a thread and both sides their caches.
 */
const POOL_OF_MANY = 1;

/** How many connections these clients have by now, more than at the beginning. */
function countConnections(clients: readonly MongoClient[]): () => number {
  let count = 0;
  for (const client of clients)
    client.on('connectionCreated', () => count++).on('connectionClosed', () => count--);
  return () => count;
}

/** The most connections that the server had beyond those that were there at the beginning and those of others since. */
async function watchConnections(
  admin: MongoClient,
  pool: ScopedMongoPool,
  beside: () => number,
): Promise<{ end(): Promise<number> }> {
  const now = async (): Promise<number> => {
    const { connections } = await admin.db('admin').command({ serverStatus: 1 });
    return (connections as { current: number }).current - beside();
  };
  const before = await now();
  let peak = 0;
  const look = async (): Promise<void> => {
    peak = Math.max(peak, (await now()) - before, pool.stats().connections);
  };
  const timer = setInterval(() => {
    look().catch(() => undefined);
  }, 100);
  return {
    async end() {
      clearInterval(timer);
      await look();
      return peak;
    },
  };
}

const DOCUMENT = { conversationId: 'c1', text: 'hello', createdAt: new Date('2026-01-01T00:00:00Z') };

const contextOf = (tenantId: TenantId): TenantContext => ({
  tenantId,
  slug: 'acme',
  cell: cellName('default'),
  plan: 'team',
  mode: 'open',
  generation: 1,
  policyVersion: 0,
  keyVersion: 0,
  correlationId: 'bench',
});
