/** What the driver tells of its pools: not of each statement, still of connections, which are counted by that. */
import { MongoClient } from 'mongodb';
import { quietPools } from '../../../tenancy/mongo/quiet-pool.js';
import { testStack } from '../../support/stack.js';

const EVENTS = [
  'connectionCreated',
  'connectionCheckOutStarted',
  'connectionCheckedOut',
  'connectionCheckedIn',
] as const;

async function toldOf(prepare: (client: MongoClient) => void): Promise<Set<string>> {
  const client = new MongoClient(testStack().mongoUrl);
  try {
    prepare(client);
    const told = new Set<string>();
    for (const event of EVENTS) client.on(event, () => told.add(event));
    await client.db('admin').command({ ping: 1 });
    return told;
  } finally {
    await client.close();
  }
}

test('a quiet client tells of its connections only', async () => {
  expect(await toldOf(quietPools)).toEqual(new Set(['connectionCreated']));
});

test('another tells of each statement too', async () => {
  expect(await toldOf(() => undefined)).toEqual(new Set(EVENTS));
});

test('a driver with another inside stays as it is', () => {
  const client = new MongoClient('mongodb://127.0.0.1:1');
  quietPools(client);
  expect(() => client.emit('connectionPoolCreated', {} as never)).not.toThrow();
});
