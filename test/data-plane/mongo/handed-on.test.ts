/** A client that makes room is handed on to the next tenant: as that tenant's user, with nothing of the one before. */
import type { MongoClient } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { type ClientPool, createClientPool } from '../../../tenancy/mongo/client-pool.js';
import type { Login } from '../../../tenancy/mongo/login.js';
import type { ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import { openLink } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { contextOf, createTenants, outcomeOf, type Tenants, transcript } from './support/tenants.js';
import { withoutOurLogins } from './support/without-our-logins.js';

let tenants: Tenants;
let ids: TenantId[];
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(4);
});
afterAll(() => tenants.close());

const id = (position: number): TenantId => ids[position] as TenantId;
const collectionOf = (pool: ScopedMongoPool, position: number) =>
  pool.forTenant(contextOf(id(position))).collection('transcripts');

const openPool = (url = testStack().mongoUrl): ClientPool =>
  createClientPool({
    mongoUrl: mongoUrlWithoutCredentials(url),
    credentials: tenants.credentials,
    maxClients: 1,
    poolSize: 2,
    waitMs: 5_000,
    idleMs: 60_000,
    recheckMs: 60_000,
    loginPatienceMs: 500,
    serverSelectionMs: 2_000,
    socketTimeoutMs: 2_000,
    hangUpMs: 1_000,
  });

/** What the server says to this login about a tenant's database. */
const outcome = (login: Login, position: number): Promise<unknown> => outcomeOf(login.client, id(position));

it('each tenant is logged in as itself and as nobody else, on every connection', async () => {
  const pool = openPool();
  const clients = new Set<MongoClient>();
  try {
    for (const position of [0, 1, 2, 0, 3, 1]) {
      const lease = await pool.lease(id(position));
      clients.add(lease.login.client);
      await lease.login.fill();
      for (const other of [0, 1, 2, 3]) {
        const outcomes = await Promise.all([1, 2].map(() => outcome(lease.login, other)));
        expect(outcomes).toEqual(other === position ? ['reads', 'reads'] : [13, 13]);
      }
      lease.release();
    }
    expect(clients.size).toBe(1);
    expect(pool.stats()).toMatchObject({ opened: 6, handedOn: 5, evicted: 5 });
  } finally {
    await pool.close();
  }
});

it('is cut from the server before the next tenant has it', async () => {
  const link = await openLink(testStack().mongoUrl);
  const pool = openPool(link.url);
  try {
    for (const position of [0, 1, 2]) {
      const lease = await pool.lease(id(position));
      await lease.login.fill();
      // The pool's, and one that looks whether the server is there.
      await until('only those are there', () => link.connections() === 3);
      lease.release();
    }
    expect(pool.stats().handedOn).toBe(2);
  } finally {
    await pool.close();
    await link.close();
  }
});

it('a client whose login was refused is not handed on, since its driver waits a while before it tries again', async () => {
  const pool = openPool();
  try {
    const refused = await pool.lease(id(1));
    const waiting = pool.lease(id(3));
    refused.refuse();
    refused.release();
    const next = await waiting;
    expect(next.login.client === refused.login.client).toBe(false);
    expect(await outcome(next.login, 3)).toBe('reads');
    next.release();
  } finally {
    await pool.close();
  }
});

it('a client on which something is still under way is closed, for whoever did not wait for it', async () => {
  const pool = openPool();
  try {
    const lease = await pool.lease(id(0));
    let end = (): void => undefined;
    const notWaitedFor = lease.bound(
      new Promise<void>((resolve) => {
        end = resolve;
      }),
    );
    const next = pool.lease(id(1));
    lease.release();
    const { login } = await next;
    expect(login.client === lease.login.client).toBe(false);
    expect(await outcome(login, 1)).toBe('reads');
    expect(pool.stats()).toMatchObject({ evicted: 1, handedOn: 0 });
    end();
    await notWaitedFor;
  } finally {
    await pool.close(0);
  }
});

it('who is refused for good leaves its place to others', async () => {
  const pool = tenants.open({ maxClients: 1, loginPatienceMs: 200 });
  await collectionOf(pool, 0).findOne({});
  const { publish } = await tenants.rotate(id(1));
  await expect(collectionOf(pool, 1).findOne({})).rejects.toMatchObject({ code: 'STORE_REFUSED' });
  expect(pool.stats()).toMatchObject({ clients: 0, waiting: 0, leases: 0 });
  expect(await collectionOf(pool, 0).findOne({})).toBeNull();
  publish();
  expect(await collectionOf(pool, 1).findOne({})).toBeNull();
});

it('a password that was rotated since it was heard of loses no request', async () => {
  const pool = tenants.open({ maxClients: 1, credentials: await tenants.rotateUnheard(id(2)) });
  await collectionOf(pool, 0).findOne({});
  const written = Array.from({ length: 5 }, (_, i) => collectionOf(pool, 2).insertOne(transcript(`${i}`)));
  expect(await Promise.all(written)).toHaveLength(5);
  expect(pool.stats().handedOn).toBe(1);
});

it('a driver that does not ask us who logs in gets a client for each tenant', async () => {
  const ours = withoutOurLogins();
  try {
    const pool = tenants.open({ maxClients: 1 });
    for (const position of [0, 1, 3])
      expect(await collectionOf(pool, position).countDocuments({ conversationId: 'none' })).toBe(0);
    expect(pool.stats()).toMatchObject({ opened: 3, evicted: 2, handedOn: 0 });
  } finally {
    ours.mockRestore();
  }
});
