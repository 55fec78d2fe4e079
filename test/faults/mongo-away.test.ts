/** MongoDB is killed, stands still, or is not there yet. For the other servers see `stores-away` and `stores-slow`. */
import { MongoClient } from 'mongodb';
import { expectCanary } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { createWorld, type World } from '../support/world.js';
import {
  expectAdmittedWhenThere,
  expectOnceThoughTwice,
  expectResidueTakenUp,
  expectWaitedFor,
} from './support/store-away.js';

let own: OwnServers<'mongo'>;
beforeAll(async () => {
  own = await startOwnServers(['mongo']);
});
afterEach(async () => {
  own.servers.mongo.resume();
  await own.servers.mongo.start();
});
afterAll(() => own.close());

describe('MongoDB', () => {
  let world: World;
  const holds = createHolds();
  const site = () => ({ world, holds, server: own.servers.mongo, step: 'mongo' as const });
  beforeAll(async () => {
    world = await createWorld(own.world);
    await world.startWorker(holds.stepIn);
  });
  afterAll(async () => {
    await expectCanary(world);
    await world.close();
  });

  it('is killed and comes back: runs at each step wait for it, and end well', () => expectWaitedFor(site()));

  it('is away for longer than an undo may take: what is left is reported and in the ledger, and a retry takes it up', () =>
    expectResidueTakenUp(site()));

  it('stands still: what was tried twice is there once', () =>
    expectOnceThoughTwice(
      site(),
      ['after begin mongo', 'after createRole', 'after begin verify'],
      ['after begin undo-mongo', 'before dropDatabase'],
    ));
});

it('a worker process that starts while MongoDB is away: tenants are admitted when it is there, and no trial is left', async () => {
  const world = await createWorld({ ...own.world, prepare: false });
  await expectAdmittedWhenThere(world, own.servers.mongo);
  await world.close();
  const client = new MongoClient(own.servers.mongo.url);
  try {
    const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
    expect(databases.filter(({ name }) => name.startsWith('tenantry_trial_'))).toEqual([]);
  } finally {
    await client.close();
  }
});
