/** A MongoDB server that lets everybody do everything: it gets no tenant, unless its operator has said that it may. */
import { rm } from 'node:fs/promises';
import { startMongo } from '../../local/mongo.js';
import { silentReport } from '../../local/report.js';
import type { RunningServer } from '../../local/server.js';
import { canaryId } from '../../tenancy/canary.js';
import { expectAgreement } from '../support/agreement.js';
import { expectActive, expectNeverWas } from '../support/expect.js';
import { serverFolder } from '../support/folder.js';
import { startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import { ownEnv } from '../support/servers.js';
import { createWorld, type World } from '../support/world.js';

describe('a MongoDB server without authentication', () => {
  let directory: string;
  let mongo: RunningServer;
  let world: World;
  beforeAll(async () => {
    directory = await serverFolder('open');
    mongo = await startMongo({ dataDir: directory, report: silentReport, env: ownEnv(), auth: false });
  });
  afterEach(() => world.close());
  afterAll(async () => {
    await mongo.kill();
    await rm(directory, { recursive: true, force: true });
  });

  it('gets no tenant: the refusal says what the server let through, and nothing is made in any store', async () => {
    world = await createWorld({ servers: { mongoUrl: mongo.url }, mongoEnforcement: 'server' });
    await world.startWorker();
    const asked = await world.ask();
    const { admission, handle } = await startProvision(world, asked);
    await expect(admission).rejects.toMatchObject({
      cause: {
        type: 'ISOLATION_NOT_ENFORCED',
        message: expect.stringContaining("find in another's database") as string,
        details: [{ cell: world.cell }],
      },
    });
    expect(await handle.result()).toEqual({ status: 'refused' });
    await expectNeverWas(world, asked);
    expect(await world.catalogue.cells.find(world.cell)).toMatchObject({ tenants: 0 });
    // Not even a canary, and the databases of the trial are gone.
    expect(await expectAgreement(world, canaryId(world.cell))).toEqual([]);
    const cell = await world.dependencies.cells.get(world.cell);
    const { databases } = await cell.mongo.db('admin').admin().listDatabases({ nameOnly: true });
    expect(databases.map(({ name }) => name).filter((name) => /^(t_|tenantry_trial_)/.test(name))).toEqual(
      [],
    );
  });

  it('gets tenants where its operator chose `guard`, and the evidence says what the server does not refuse', async () => {
    world = await createWorld({ servers: { mongoUrl: mongo.url }, mongoEnforcement: 'guard' });
    await world.startWorker();
    const asked = await world.ask();
    const { handle } = await startProvision(world, asked);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
    const steps = await stepsOf(world, asked.operationId);
    const { evidence } = steps.find(({ name }) => name === 'verify') ?? {};
    expect(evidence).toMatchObject({
      mongo: {
        enforcement: 'guard',
        notRefused: expect.arrayContaining([
          'find without a login',
          "find in another's database",
          "delete in another's database",
        ]) as string[],
      },
      // The other stores are no weaker for it.
      postgres: { otherTenantSaw: 0 },
      redis: { refused: { 'other reads': 'NOPERM' } },
    });
    // Nothing is claimed that was not tried.
    expect((evidence as { mongo: object }).mongo).not.toHaveProperty('refused');
  });
});
