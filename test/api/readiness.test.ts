import pg from 'pg';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';

describe('a cell that is prepared', () => {
  let world: World;
  let api: Api;
  beforeAll(async () => {
    world = await createWorld();
    api = await startApi(world);
  });
  afterAll(async () => {
    await api?.close();
    await world?.close();
  });

  test('makes the API ready, which says what its servers enforce, as tried', async () => {
    const { status, json } = await api.send('/readyz');
    expect(status).toBe(200);
    expect(json).toMatchObject({
      ready: true,
      catalogue: { ok: true },
      temporal: { ok: true },
      cells: [{ name: world.cell, prepared: true, takesTenants: true }],
    });
    const [cell] = json['cells'] as {
      mongo: { enforcement: string; weaker: boolean; trial: Record<string, unknown> };
    }[];
    expect(cell?.mongo.enforcement).toBe(world.stack.mongoEnforcement);
    expect(cell?.mongo.weaker).toBe(world.stack.mongoEnforcement === 'guard');
    expect(cell?.mongo.trial['refused']).not.toHaveLength(0);
    expect(Date.parse(String(cell?.mongo.trial['triedAt']))).toBeLessThanOrEqual(Date.now());
  });

  test('is told of with the number of workers that poll', async () => {
    expect((await api.send('/readyz')).json['temporal']).toEqual({ ok: true, workers: 0 });
    const worker = await world.startWorker();
    const workers = async () => ((await api.send('/readyz')).json['temporal'] as { workers: number }).workers;
    while ((await workers()) === 0) expect(worker.worker.getState()).toBe('RUNNING');
  });

  test('is told of without an address and without a secret', async () => {
    const { text } = await api.send('/readyz', { token: null });
    for (const secret of [
      world.stack.passwords.catalogue,
      world.stack.passwords.owner,
      'env:',
      'postgres:',
      'redis:',
      'mongodb:',
    ])
      expect(text).not.toContain(secret);
  });
});

describe('a cell that is not prepared yet', () => {
  let world: World;
  let api: Api;
  beforeEach(async () => {
    world = await createWorld({ prepare: false, mongoEnforcement: 'guard' });
    api = await startApi(world);
  });
  afterEach(async () => {
    await api?.close();
    await world?.close();
  });

  test('makes the API not ready', async () => {
    const { status, json } = await api.send('/readyz');
    expect([status, json]).toMatchObject([
      503,
      { ready: false, cells: [{ prepared: false, takesTenants: false, mongo: { trial: null } }] },
    ]);
  });

  test('is told from a catalogue of before an upgrade, which is not ready either', async () => {
    const owner = new pg.Client({ connectionString: world.url('control', 'owner') });
    await owner.connect();
    await owner.query('DELETE FROM tenantry.migrations WHERE id = (SELECT max(id) FROM tenantry.migrations)');
    await owner.end();
    expect((await api.send('/readyz')).json).toMatchObject({ ready: false, catalogue: { ok: false } });
    const why = api.logged.find(({ msg }) => msg === 'not ready');
    expect(JSON.stringify(why)).toContain('the catalogue is to be migrated');
  });

  test('names what its server did not refuse when it is: weaker where the operator chose the guard, no tenants where not', async () => {
    const trial = {
      triedAt: new Date().toISOString(),
      server: 'x',
      refused: ['find'],
      notRefused: ['bulkWrite', 'getMore'],
    };
    await world.catalogue.cells.prepared(world.cell, trial);
    const cell = async () => ((await api.send('/readyz')).json['cells'] as object[])[0];
    expect(await cell()).toMatchObject({
      takesTenants: true,
      mongo: { enforcement: 'guard', weaker: true, trial },
    });
    await world.catalogue.pool.query("UPDATE cell SET mongo_enforcement = 'server'");
    expect(await cell()).toMatchObject({
      takesTenants: false,
      mongo: { enforcement: 'server', weaker: false, trial },
    });
  });
});
