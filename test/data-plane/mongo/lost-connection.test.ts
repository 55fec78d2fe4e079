/**
 * A connection that breaks while a statement is being sent. Between the socket's `destroy` and its 'close' the driver
 * (mongodb 7.9.0) still hands the connection out, and then waits for ever by itself.
 */
import { Socket } from 'node:net';
import type { Cell } from '../../../catalogue/cells.js';
import { cellName, type TenantId } from '../../../domain/ids.js';
import { connectCell } from '../../../tenancy/cell-connections.js';
import { type Link, openLink } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { withoutOurLogins } from './support/without-our-logins.js';
import { contextOf, createTenantsBehindLink } from './support/tenants.js';

const CELL: Cell = {
  name: cellName('default'),
  postgresOwner: 'postgres',
  postgresControl: 'postgres',
  postgresRuntime: 'postgres',
  postgresPurge: 'postgres',
  mongo: 'mongo',
  redis: 'redis',
  mongoEnforcement: 'server',
  capacity: 1,
  tenants: 0,
  trial: null,
  preparedAt: null,
};
const AGAIN = { $set: { text: 'again' } };

async function openTenant({ socketTimeoutMs = 1_000 } = {}) {
  const { link, tenants, close } = await createTenantsBehindLink();
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ poolSizePerClient: 1, serverSelectionMs: 1_000, socketTimeoutMs });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  await transcripts.findOne({});
  return { link, pool, transcripts, close };
}

/** Cuts the driver's connections and begins statements at the very moments at which one of its sockets breaks. */
async function askWhileBreaking<T>(link: Link, ask: () => Promise<T>[]): Promise<Promise<T>[]> {
  const { destroy } = Socket.prototype;
  const through = Number(new URL(link.url).port);
  const asked: Promise<T>[] = [];
  Socket.prototype.destroy = function (this: Socket, ...args: [Error?]) {
    const destroyed = destroy.apply(this, args);
    if (this.remotePort === through && asked.length < 8) asked.push(...ask());
    return destroyed;
  };
  try {
    link.cut();
    await until('connections have broken', () => asked.length >= 4);
    return asked;
  } finally {
    Socket.prototype.destroy = destroy;
  }
}

const nameOf = (error: Error): string => error.name;
const codeOf = (error: { code: string }): string => error.code;

it('a read that meets a connection which is just breaking goes over another one', async () => {
  // Longer than the test: it is not the bound on what is under way that ends it.
  const tenant = await openTenant({ socketTimeoutMs: 60_000 });
  const { pool, transcripts } = tenant;
  try {
    const asked = await askWhileBreaking<unknown>(tenant.link, () => [transcripts.findOne({})]);
    expect(new Set(await Promise.all(asked))).toEqual(new Set([null]));
    expect(pool.stats().leases).toBe(0);
  } finally {
    await tenant.close();
  }
});

it("the control plane's own client goes on as well, with every place in its pool", async () => {
  const { mongoUrl, redisUrl, postgresUrl } = testStack();
  const link = await openLink(mongoUrl);
  const secrets: Record<string, string> = { mongo: link.url, redis: redisUrl };
  const { mongo, close } = connectCell(CELL, {
    resolveSecret: (reference) => secrets[reference] ?? postgresUrl,
    poolSize: 2,
  });
  try {
    await mongo.db('admin').command({ ping: 1 });
    const asked = await askWhileBreaking(link, () => [mongo.db('admin').command({ ping: 1 }).catch(nameOf)]);
    expect(await Promise.all(asked)).toContain('MongoNetworkError');
    const inEachPlace = [1, 2].map(() => mongo.db('admin').command({ ping: 1 }));
    expect(await Promise.all(inEachPlace)).toMatchObject([{ ok: 1 }, { ok: 1 }]);
  } finally {
    await close();
    await link.close();
  }
});

describe('with a driver that gives no connection to mend', () => {
  let ours: jest.SpyInstance;
  beforeAll(() => {
    ours = withoutOurLogins();
  });
  afterAll(() => ours.mockRestore());

  it('a statement that meets a connection which is just breaking ends, and its tenant goes on', async () => {
    const tenant = await openTenant();
    const { pool, transcripts } = tenant;
    try {
      const asked = await askWhileBreaking<unknown>(tenant.link, () => [
        transcripts.findOne({}).catch(codeOf),
        transcripts.updateMany({}, AGAIN).catch(codeOf),
      ]);
      const ends = await Promise.all(asked);
      expect(ends).toContain('STORE_UNAVAILABLE');
      expect(pool.stats().leases).toBe(0);
      expect(await transcripts.findOne({})).toBeNull();
    } finally {
      await tenant.close();
    }
  });

  it('one that was aborted gives its client back as well, although the driver never comes back', async () => {
    const tenant = await openTenant();
    const { pool, transcripts } = tenant;
    const leaving = new AbortController();
    const { signal } = leaving;
    try {
      // Of writes the driver takes no signal.
      const asked = await askWhileBreaking(tenant.link, () => [
        transcripts.updateMany({}, AGAIN, { signal }).catch((error: unknown) => error),
        transcripts.updateMany({}, AGAIN, { signal }).catch((error: unknown) => error),
      ]);
      const reason = new Error('left');
      leaving.abort(reason);
      expect(await Promise.all(asked)).toContain(reason);
      // What is under way is still on its client, until the bound ends it: 1 s for a server, twice 1 s for its answer, 1 s.
      expect(pool.stats().leases).toBeGreaterThan(0);
      await until('no lease is left', () => pool.stats().leases === 0, 8_000);
      expect(await transcripts.findOne({})).toBeNull();
    } finally {
      await tenant.close();
    }
  });
});
