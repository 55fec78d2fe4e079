/** A driver's client that goes from one tenant's user to the next: only when nothing of the first is left on it. */
import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import type { MongoClient } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { mongoDatabaseName } from '../../../domain/names.js';
import { mongoUrlWithoutCredentials } from '../../../tenancy/cell-connections.js';
import { isAtWork } from '../../../tenancy/mongo/driver-inside.js';
import { type LentClient, openClient } from '../../../tenancy/mongo/lent-client.js';
import type { MongoUser } from '../../../tenancy/mongo/user-switch.js';
import { type Link, openLink } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { createTenants, outcomeOf, type Tenants } from './support/tenants.js';

let tenants: Tenants;
let link: Link;
let ids: [TenantId, TenantId];
let lent: LentClient;
let cutOff: AbortController;
beforeAll(async () => {
  tenants = createTenants();
  ids = (await tenants.make(2)) as typeof ids;
});
afterAll(() => tenants.close());
beforeEach(async () => {
  link = await openLink(mongoUrlWithoutCredentials(testStack().mongoUrl));
  const bounds = { serverSelectionMs: 5_000, socketTimeoutMs: 10_000, hangUpMs: 600_000 };
  cutOff = new AbortController();
  lent = openClient({ mongoUrl: link.url, poolSize: 1, ...bounds }, await user(0), cutOff.signal);
  expect(await outcomes()).toEqual(['reads', 13]);
});
afterEach(async () => {
  cutOff.abort();
  await lent.close();
  await link.close();
});

const user = (position: 0 | 1): Promise<MongoUser> => tenants.userOf(ids[position]);
const outcomes = (): Promise<unknown[]> => Promise.all(ids.map((id) => outcomeOf(lent.client, id)));

it('is the next user from when that one enters, and nobody in between', async () => {
  await lent.leave();
  await expect(lent.client.db(mongoDatabaseName(ids[0])).command({ ping: 1 })).rejects.toThrow("nobody's");
  expect(lent.leave()).toBeUndefined();
  lent.enter(await user(1));
  expect(await outcomes()).toEqual([13, 'reads']);
});

it('lets nobody enter before the last user has left', async () => {
  const next = await user(1);
  expect(() => lent.enter(next)).toThrow("the client is another's");
  expect(await outcomes()).toEqual(['reads', 13]);
});

it('is not left while the driver has something to do, on a connection or waiting for one', async () => {
  const ping = () => lent.client.db(mongoDatabaseName(ids[0])).command({ ping: 1 });
  link.holdAnswers();
  const statements = Promise.allSettled([ping(), ping()]);
  await turnOfTheLoop();
  expect(lent.leave()).toBeUndefined();
  link.cut();
  // By now the server is unknown to it, and this one waits for that to change.
  await statements;
  const waiting = ping();
  await turnOfTheLoop();
  expect(lent.leave()).toBeUndefined();
  await waiting;
  await lent.leave();
  lent.enter(await user(1));
  expect(await outcomes()).toEqual([13, 'reads']);
});

it('is not left where the driver has another inside and nobody can tell', () => {
  const clientWith = (inside: object) => inside as unknown as MongoClient;
  expect(isAtWork(clientWith({ topology: { s: { servers: new Map() }, waitQueue: { length: 0 } } }))).toBe(
    false,
  );
  expect(isAtWork(clientWith({ topology: { s: { servers: new Map() } } }))).toBe(true);
  expect(isAtWork(clientWith({ topology: { waitQueue: { length: 0 } } }))).toBe(true);
  expect(
    isAtWork(clientWith({ topology: { s: { servers: new Map([['a', {}]]) }, waitQueue: { length: 0 } } })),
  ).toBe(true);
});

it('keeps no session for the next user', async () => {
  const begun: string[] = [];
  const start = lent.client.startSession.bind(lent.client);
  lent.client.startSession = (options) => {
    const session = start(options);
    begun.push(session.id?.id.toString('hex') ?? '');
    return session;
  };
  const read = (position: 0 | 1) => {
    const database = mongoDatabaseName(ids[position]);
    return lent.findOne(
      { database, collection: (name) => lent.client.db(database).collection(name) },
      'transcripts',
      {},
      {},
    );
  };
  await read(0);
  await read(0);
  expect(begun).toHaveLength(1);
  await lent.leave();
  lent.enter(await user(1));
  await read(1);
  await lent.client.startSession().endSession();
  expect(new Set(begun).size).toBe(3);
});

it('waits no longer for a server that does not hang up once it is cut off', async () => {
  link.holdAnswers();
  const left = lent.leave();
  cutOff.abort();
  await left;
  await lent.close();
  expect(lent.leave()).toBeUndefined();
});
