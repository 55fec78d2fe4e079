/** Cells are prepared by every worker that starts, also while their servers are away. MongoDB: `mongo-away`. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { startCrashingWorker } from '../support/crash.js';
import { expectActive } from '../support/expect.js';
import { startProvision } from '../support/provision.js';
import { type OwnServers, startOwnServers } from '../support/servers.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { expectAdmittedWhenThere } from './support/store-away.js';

const NEEDED = ['control', 'cell', 'redis', 'temporal'] as const;

describe('a worker process that starts while servers are away', () => {
  let own: OwnServers<(typeof NEEDED)[number]>;
  let world: World;
  beforeAll(async () => {
    own = await startOwnServers(NEEDED);
  });
  afterAll(() => own.close());
  beforeEach(async () => {
    world = await createWorld({ ...own.world, prepare: false });
  });
  afterEach(() => world.close());

  it.each(['cell', 'redis'] as const)('%s: tenants are admitted when it is there', (server) =>
    expectAdmittedWhenThere(world, own.servers[server]),
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
});

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
