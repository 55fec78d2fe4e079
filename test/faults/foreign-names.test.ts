/** A name is taken by something that is not ours: provisioning fails for good, is undone, and that thing is untouched. */
import pg from 'pg';
import { MONGO_ROLE, mongoDatabaseName, redisMarkerKey, redisUserName } from '../../domain/names.js';
import { surveyTenant } from '../../tenancy/survey.js';
import { expectAgreement } from '../support/agreement.js';
import { expectActive, expectUndone } from '../support/expect.js';
import { startProvision } from '../support/provision.js';
import type { Asked } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';

const NAME_TAKEN = { name: 'WorkflowFailedError', cause: { type: 'NAME_TAKEN' } };

describe('a foreign thing with a name of ours', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
    await world.startWorker();
  });
  afterAll(() => world.close());

  it.each([
    ['a declared name and another validator', 'events', { validator: { kind: { $type: 'string' } } }],
    ['a declared name and no validator', 'events', {}],
    ['a name of its own', 'somebody_elses', {}],
  ])('a MongoDB collection with %s', async (_what, name, options) => {
    const asked = await world.ask();
    const { mongo } = await world.dependencies.cells.get(world.cell);
    const database = mongo.db(mongoDatabaseName(asked.tenantId));
    const foreign = await database.createCollection<{ kind: string; mine: boolean }>(name, options);
    await foreign.insertOne({ kind: 'foreign', mine: false });

    await expectNameTaken(world, asked);
    // Of ours nothing is left: what the survey still finds is the foreign collection.
    const found = await surveyTenant(await world.dependencies.cells.get(world.cell), asked.tenantId);
    expect(found.map(({ kind, name: called }) => [kind, called])).toEqual([
      ['database', database.databaseName],
      ['collection', `${database.databaseName}.${name}`],
    ]);
    expect(await foreign.find().toArray()).toMatchObject([{ mine: false }]);
    const [info] = await database.listCollections({ name }, { nameOnly: false }).toArray();
    expect(info && 'options' in info ? info.options?.['validator'] : undefined).toEqual(
      'validator' in options ? options.validator : undefined,
    );

    await foreign.drop();
    await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
    await expectRetried(world, asked);
  });

  it('but a role of our name in a database of our name is ours, and gets the rights that it should have', async () => {
    const asked = await world.ask();
    const { mongo } = await world.dependencies.cells.get(world.cell);
    const database = mongo.db(mongoDatabaseName(asked.tenantId));
    await database.command({ createRole: MONGO_ROLE, privileges: [], roles: [] });
    const { handle } = await startProvision(world, asked);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
  });

  it('a Redis marker of somebody else', async () => {
    const asked = await world.ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    const marker = redisMarkerKey(asked.tenantId);
    const theirs = `t:{${asked.tenantId}}:session:1`;
    await redis.set(marker, 'somebody else');
    await redis.set(theirs, 'data');

    await expectNameTaken(world, asked);
    await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
    expect(await redis.get(marker)).toBe('somebody else');
    expect(await redis.get(theirs)).toBe('data');
    expect(await redis.acl('GETUSER', redisUserName(asked.tenantId))).toBeNull();

    await redis.del(marker, theirs);
    await expectRetried(world, asked);
  });

  it('a marker of another type than ours', async () => {
    const asked = await world.ask();
    const { redis } = await world.dependencies.cells.get(world.cell);
    const marker = redisMarkerKey(asked.tenantId);
    await redis.hset(marker, 'owner', 'somebody else');

    await expectNameTaken(world, asked);
    await expectUndone(world, asked, { status: 'failed', code: 'NAME_TAKEN' });
    expect(await redis.hgetall(marker)).toEqual({ owner: 'somebody else' });

    await redis.del(marker);
    await expectRetried(world, asked);
  });
});

describe('a PostgreSQL table that is not ours', () => {
  let world: World;
  afterEach(() => world.close());

  it('keeps its cell from being prepared, and no tenant is admitted to it', async () => {
    world = await createWorld({ prepare: false });
    await asOwner(world, FOREIGN_TABLE);
    await expect(world.dependencies.cells.get(world.cell)).rejects.toMatchObject({
      code: 'NAME_TAKEN',
      params: { kind: 'table (customers)', store: 'PostgreSQL' },
    });
    await world.startWorker();
    const asked = await world.ask();
    const { admission, handle } = await startProvision(world, asked);
    await expect(admission).rejects.toMatchObject({ cause: { type: 'CELL_NOT_READY' } });
    expect(await handle.result()).toEqual({ status: 'refused' });

    await asOwner(world, 'DROP SCHEMA app CASCADE');
    await world.dependencies.cells.get(world.cell);
    const again = await world.ask();
    const { handle: second } = await startProvision(world, again);
    expect(await second.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, again);
  });

  it('that a later worker meets fails the operation, and the ledger keeps what it cannot look after', async () => {
    world = await createWorld({ prepare: false });
    await asOwner(world, FOREIGN_TABLE);
    // As an earlier worker left it, whose manifest did not have that table.
    const trial = { triedAt: new Date().toISOString(), server: 'earlier', refused: [], notRefused: [] };
    await world.catalogue.cells.prepared(world.cell, trial);
    await world.startWorker();
    const asked = await world.ask();
    await expectNameTaken(world, asked);
    const operation = await world.catalogue.operations.find(asked.operationId);
    // The stores were not reached, so the ledger does not say that nothing is there.
    expect(operation?.residue.map(({ store }) => store).toSorted()).toEqual(
      (await world.catalogue.tenants.allocations(asked.tenantId)).map(({ store }) => store).toSorted(),
    );
    expect(await rowsOf(world, 'SELECT mine FROM app.customers')).toEqual([{ mine: false }]);

    await asOwner(world, 'DROP SCHEMA app CASCADE');
    // At most what Redis has of it, which is made again for whoever is on the way; the residue names it.
    const found = await expectAgreement(world, asked.tenantId);
    expect(found.filter(({ store }) => store !== 'redis')).toEqual([]);
    await expectRetried(world, asked);
  });

  it('in the place of one that was ours is found by the probes', async () => {
    world = await createWorld();
    await world.startWorker();
    await asOwner(world, `DROP SCHEMA app CASCADE; ${FOREIGN_TABLE}`);
    const asked = await world.ask();
    const { handle } = await startProvision(world, asked);
    await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'STORE_REFUSED' } });
    expect(await rowsOf(world, 'SELECT mine FROM app.customers')).toEqual([{ mine: false }]);
    expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({ status: 'failed' });
  });
});

const FOREIGN_TABLE = `CREATE SCHEMA app; CREATE TABLE app.customers (mine boolean);
  INSERT INTO app.customers VALUES (false);`;

async function expectNameTaken(world: World, asked: Asked): Promise<void> {
  const { admission, handle } = await startProvision(world, asked);
  expect(await admission).toMatchObject({ tenantId: asked.tenantId });
  await expect(handle.result()).rejects.toMatchObject(NAME_TAKEN);
  expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({
    status: 'failed',
    error: { code: 'NAME_TAKEN' },
  });
  expect(await world.catalogue.tenants.find(asked.tenantId)).toMatchObject({ state: 'failed' });
}

async function expectRetried(world: World, asked: Asked): Promise<void> {
  const { admission, handle } = await startProvision(world, { ...asked, attempt: 2 });
  expect(await admission).toMatchObject({ generation: 2 });
  expect(await handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
}

async function rowsOf(world: World, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: world.url('cell', 'owner') });
  await client.connect();
  try {
    return (await client.query(statement)).rows as unknown[];
  } finally {
    await client.end();
  }
}

const asOwner = rowsOf;
