/** Cells are prepared by every worker that starts: at the same time, and while their servers are away. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { openCatalogue } from '../../catalogue/index.js';
import { createLogger } from '../../domain/log.js';
import { compose } from '../../worker/compose.js';
import { startCrashingWorker } from '../support/crash.js';
import { expectActive, expectCanary } from '../support/expect.js';
import { startProvision } from '../support/provision.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';

describe('a cell that several workers prepare at once', () => {
  it('has one canary, one set of tables, and no trace of the trials', async () => {
    const world = await createWorld({ prepare: false });
    const others = [1, 2, 3].map((number) => another(world, `other-${number}`));
    const prepared = await Promise.all(
      [world.dependencies, ...others.map(({ composition }) => composition.dependencies)].map(({ cells }) =>
        cells.get(world.cell),
      ),
    );
    expect(new Set(prepared.map(({ canary }) => canary?.tenantId)).size).toBe(1);
    await expectCanary(world);
    // Every one of them can work as the canary and for a tenant.
    for (const { canary } of prepared) await canary?.mongo.db().admin().ping();
    await world.startWorker();
    for (const { composition, catalogue } of others) {
      await composition.close();
      await catalogue.close();
    }
    const asked = await world.ask();
    const { handle } = await startProvision(world, asked);
    expect(await handle.result()).toEqual({ status: 'succeeded' });
    await expectActive(world, asked);
    await world.close();
  });
});

describe('a worker process that starts while servers are away', () => {
  let own: OwnServers;
  let world: World;
  beforeAll(async () => {
    own = await startOwnServers();
  });
  afterAll(() => own.close());
  beforeEach(async () => {
    world = await createWorld({ ...own.world, prepare: false });
  });
  afterEach(() => world.close());

  it.each(['cell', 'mongo', 'redis'] as const)(
    '%s: tenants are admitted when it is there',
    async (server) => {
      await own.servers[server].kill();
      const worker = startCrashingWorker(world, {});
      try {
        const asked = await world.ask();
        const { admission } = await startProvision(world, asked);
        await expect(admission).rejects.toMatchObject({ cause: { type: 'CELL_NOT_READY' } });
        await own.servers[server].start();
        await until('the cell is prepared', async () => {
          const cell = await world.catalogue.cells.find(world.cell);
          return cell?.preparedAt;
        });
        const again = await world.ask();
        const { handle } = await startProvision(world, again);
        expect(await handle.result()).toEqual({ status: 'succeeded' });
        await expectActive(world, again);
        await expectCanary(world);
      } finally {
        worker.end();
        await worker.killed;
      }
    },
  );

  it('the catalogue: it waits for it', async () => {
    await own.servers.control.kill();
    const worker = startCrashingWorker(world, {});
    try {
      await worker.polling;
      await own.servers.control.start();
      const asked = await until('the request is taken', () => world.ask().catch(() => undefined));
      await until('the cell is prepared', async () => {
        const cell = await world.catalogue.cells.find(world.cell);
        return cell?.preparedAt;
      });
      const { handle } = await startProvision(world, asked);
      expect(await handle.result()).toEqual({ status: 'succeeded' });
      await expectActive(world, asked);
    } finally {
      worker.end();
      await worker.killed;
    }
  });

  it('Temporal: it says so and ends, for whatever watches over it to start it again', async () => {
    await own.servers.temporal.kill();
    try {
      const { code, said } = await runToItsEnd(world);
      expect(code).toBe(1);
      expect(said).toMatch(/connect|Temporal/i);
    } finally {
      await own.servers.temporal.start();
    }
  });

  it('leaves no trial behind', async () => {
    const client = new MongoClient(own.servers.mongo.url);
    try {
      const { databases } = await client.db('admin').admin().listDatabases({ nameOnly: true });
      expect(databases.filter(({ name }) => name.startsWith('tenantry_trial_'))).toEqual([]);
    } finally {
      await client.close();
    }
  });
});

/** What another worker process would have. */
function another(world: World, name: string) {
  const catalogue = openCatalogue({ url: world.url('control', 'catalogue'), name });
  const composition = compose({
    catalogue,
    manifest: world.manifest,
    rootKey: Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
    resolveSecret: (reference) => world.env[reference.replace(/^env:/, '')] ?? '',
    poolSize: 4,
    log: createLogger({ level: 'silent' }),
  });
  return { catalogue, composition };
}

function runToItsEnd(world: World): Promise<{ code: number | null; said: string }> {
  const program = join(__dirname, '..', '..', 'dist', 'worker', 'main.js');
  const child = spawn(process.execPath, [program], {
    env: { ...process.env, ...world.env, TENANTRY_TEMPORAL_CONNECT_MS: '500' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      said += text.toString();
    });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, said }));
  });
}
