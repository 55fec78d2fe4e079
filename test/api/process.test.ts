import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { isSlugTaken } from '../support/recorded.js';
import { until } from '../support/until.js';
import { createWorld, type World } from '../support/world.js';
import { tenantBody } from './support/bodies.js';

/** As it was built before the tests. */
const MAIN = join(__dirname, '..', '..', 'dist', 'api', 'main.js');

let world: World;
let child: ChildProcess | undefined;
beforeAll(async () => {
  world = await createWorld();
});
afterEach(async () => {
  if (child !== undefined && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});
afterAll(() => world?.close());

function start(env: Record<string, string>): ChildProcess {
  child = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return child;
}

/** Where it listens, from its own log. */
async function listening(process: ChildProcess): Promise<string> {
  if (process.stdout === null) throw new Error('no stdout');
  for await (const line of createInterface({ input: process.stdout })) {
    const { url } = JSON.parse(line) as { url?: string };
    if (url !== undefined) {
      // Read on, or the process stops when the pipe is full.
      process.stdout.resume();
      return url;
    }
  }
  throw new Error('it ended without listening');
}

test('the process serves on loopback, and ends with 0 when it is asked to, after the requests under way', async () => {
  const abandoned = await world.ask();
  await agedByADay(abandoned.operationId);
  const api = start({ ...world.env, TENANTRY_LOG_LEVEL: 'info' });
  const url = await listening(api);
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  await world.startWorker();
  const body = tenantBody();
  const asked = fetch(`${url}/v1/tenants`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${world.env['TENANTRY_API_TOKEN']}`,
      'content-type': 'application/json',
      prefer: 'wait=60',
    },
    body: JSON.stringify(body),
  });
  await until('it is admitted', () => isSlugTaken(world, body.slug));
  const ended = once(api, 'exit');
  api.kill('SIGTERM');
  expect([201, 202]).toContain((await asked).status);
  expect(await ended).toEqual([0, null]);
  // Whose API died before anything came of it.
  expect(await requestOf(abandoned.operationId)).toBeUndefined();
});

const agedByADay = (operationId: string) =>
  world.catalogue.pool.query(
    "UPDATE request SET created_at = created_at - interval '1 day' WHERE operation_id = $1",
    [operationId],
  );

const requestOf = async (operationId: string): Promise<unknown> =>
  (await world.catalogue.pool.query('SELECT body FROM request WHERE operation_id = $1', [operationId]))
    .rows[0];

test('it starts without Temporal and without the catalogue, and says that it is not ready', async () => {
  const api = start({
    ...world.env,
    TENANTRY_LOG_LEVEL: 'info',
    TENANTRY_TEMPORAL_ADDRESS: '127.0.0.1:1',
    TENANTRY_CATALOGUE_URL: 'postgres://nobody@127.0.0.1:1/none',
  });
  const ready = await fetch(`${await listening(api)}/readyz`);
  expect([ready.status, await ready.json()]).toMatchObject([
    503,
    { catalogue: { ok: false }, temporal: { ok: false } },
  ]);
});

test('it does not start with a token that is too short, and names the variable but not its value', async () => {
  const api = start({ ...world.env, TENANTRY_API_TOKEN: 'short-secret' });
  let said = '';
  api.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  expect(await once(api, 'exit')).toEqual([1, null]);
  expect(said).toContain('TENANTRY_API_TOKEN');
  expect(said).not.toContain('short-secret');
});
