/** `findOne` by a command of its own: what goes to the server is what the driver's `findOne` sends, however it is sent. */
import { type Document, MongoClient } from 'mongodb';
import { executeCommandOf } from '../../../tenancy/mongo/driver-inside.js';
import { createFindOne } from '../../../tenancy/mongo/find-one.js';
import { testStack } from '../../support/stack.js';

const DATABASE = `find-one-${process.pid}`;
let client: MongoClient;
let sent: Document[];

beforeEach(async () => {
  client = new MongoClient(testStack().mongoUrl, { monitorCommands: true });
  await client.db(DATABASE).collection<{ _id: string }>('notes').insertOne({ _id: 'a' });
  sent = [];
  client.on('commandStarted', ({ databaseName, command }) => {
    const { lsid: _, $clusterTime: __, ...rest } = command;
    sent.push({ databaseName, ...rest });
  });
});

afterEach(async () => {
  await client.db(DATABASE).dropDatabase();
  await client.close();
});

test.each<Document>([
  {},
  { maxTimeMS: 5_000 },
  { projection: { _id: 1 }, skip: 0, comment: 'why' },
  { sort: { _id: 1 }, maxTimeMS: 5_000 },
  { hint: '_id_' },
])('sends what the driver does, with %j', async (options) => {
  const notes = client.db(DATABASE).collection('notes');
  const within = { database: DATABASE, collection: (name: string) => client.db(DATABASE).collection(name) };
  const filter: Document = { _id: 'a' };
  const found = await createFindOne(client, 1).send(within, 'notes', filter, options);
  expect(found).toEqual({ _id: 'a' });
  expect(await notes.findOne(filter, options)).toEqual(found);
  expect(sent).toHaveLength(2);
  expect(sent[0]).toEqual(sent[1]);
});

describe.each([
  ['the driver as it is', undefined],
  ['a driver with another inside', {}],
])('a command by %s', (_, inside) => {
  const execute = (command: Document, options: Document = {}) =>
    executeCommandOf(client, inside)(DATABASE, command, options);

  test('gives the answer of its database', async () => {
    expect(await execute({ count: 'notes' })).toMatchObject({ n: 1, ok: 1 });
    expect(sent).toMatchObject([{ databaseName: DATABASE, $db: DATABASE, count: 'notes' }]);
  });

  test("fails with the server's code, and with its caller's reason", async () => {
    await expect(execute({ noSuchCommand: 1 })).rejects.toMatchObject({ code: 59 });
    await expect(
      execute({ count: 'notes' }, { signal: AbortSignal.abort(new Error('gone')) }),
    ).rejects.toThrow('gone');
  });
});
