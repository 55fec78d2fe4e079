/** A worker process whose environment is not complete ends at once, and says what is missing and no value. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expectHarmless } from '../support/harmless.js';

/** As it was built before the tests. */
const MAIN = join(__dirname, '..', '..', 'dist', 'worker', 'main.js');

/** Nothing listens there: what comes as far as connecting fails too, with another message. */
const NOWHERE = '127.0.0.1:1';
const SECRET = 'a-secret-of-the-environment';
const CELL = {
  TENANTRY_CELL_POSTGRES_OWNER_URL: `postgres://owner:${SECRET}@${NOWHERE}/cell`,
  TENANTRY_CELL_POSTGRES_CONTROL_URL: `postgres://control:${SECRET}@${NOWHERE}/cell`,
  TENANTRY_CELL_POSTGRES_RUNTIME_URL: `postgres://runtime:${SECRET}@${NOWHERE}/cell`,
  TENANTRY_CELL_POSTGRES_PURGE_URL: `postgres://purge:${SECRET}@${NOWHERE}/cell`,
  TENANTRY_CELL_MONGO_URL: `mongodb://root:${SECRET}@${NOWHERE}/`,
  TENANTRY_CELL_REDIS_URL: `redis://default:${SECRET}@${NOWHERE}`,
};
const ROOT_KEY = Buffer.alloc(32, 7).toString('base64');
const COMPLETE: Record<string, string> = {
  ...CELL,
  TENANTRY_CATALOGUE_URL: `postgres://catalogue:${SECRET}@${NOWHERE}/control`,
  TENANTRY_TEMPORAL_ADDRESS: NOWHERE,
  TENANTRY_TEMPORAL_CONNECT_MS: '500',
  TENANTRY_ROOT_KEY: ROOT_KEY,
};

let child: ChildProcess | undefined;
afterEach(async () => {
  if (child !== undefined && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

/** All that it says until it ends. */
async function runToItsEnd(env: Record<string, string>): Promise<{ code: unknown; said: string }> {
  const worker = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child = worker;
  let said = '';
  for (const stream of [worker.stdout, worker.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  const [code] = (await once(worker, 'close')) as [number | null];
  return { code, said };
}

const without = (...names: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(COMPLETE).filter(([name]) => !names.includes(name)));

test.each(Object.keys(CELL))('it does not start without %s', async (name) => {
  const { code, said } = await runToItsEnd(without(name));
  expect(code).toBe(1);
  expect(said).toMatch(new RegExp(`^The environment is not complete:\n  ${name} \\(.+\\): .+\n$`));
  expectHarmless(said, [SECRET, ROOT_KEY]);
});

test('it names all that is missing or wrong at once, and shows no value', async () => {
  const { code, said } = await runToItsEnd({
    ...without(...Object.keys(CELL)),
    TENANTRY_CELL_MONGO_URL: `http://${SECRET}@${NOWHERE}`,
  });
  expect(code).toBe(1);
  for (const name of Object.keys(CELL)) expect(said).toContain(`\n  ${name} (`);
  expectHarmless(said, [SECRET, ROOT_KEY]);
});

test('it says with what it starts, without the secrets', async () => {
  const { code, said } = await runToItsEnd(COMPLETE);
  // It came as far as Temporal.
  expect(code).toBe(1);
  const [first = ''] = said.split('\n');
  const { config } = JSON.parse(first) as { config: Record<string, unknown> };
  expect(config).toMatchObject({ TENANTRY_TEMPORAL_ADDRESS: NOWHERE, TENANTRY_CELL_NAME: 'default' });
  for (const name of [...Object.keys(CELL), 'TENANTRY_CATALOGUE_URL', 'TENANTRY_ROOT_KEY'])
    expect(config).toHaveProperty(name, '[secret]');
  expectHarmless(said, [SECRET, ROOT_KEY]);
});
