/** How old what the data plane knows of a tenant may be, and what it does when it cannot know. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { createPool } from '../../../catalogue/pool.js';
import { createLogger } from '../../../domain/log.js';
import {
  createDirectory,
  type Directory,
  type DirectoryOptions,
  slugKey,
} from '../../../tenancy/context/directory.js';
import { createCredentials } from '../../../tenancy/context/credentials.js';
import { openLink } from '../../support/link.js';
import { type OwnServers, startOwnServers } from '../../support/servers.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { change, codeOf, insertTenant } from './support.js';

let world: World;
const opened: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  world = await createWorld();
});
afterAll(async () => {
  await world.close();
});
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

/** @param statementTimeout of its pool: how long the catalogue is waited for */
function openDirectory(
  options: Partial<DirectoryOptions> = {},
  statementTimeout = 3_000,
): {
  directory: Directory;
  queries: () => number;
} {
  const url = options.url ?? world.url('control', 'lookup');
  const pool = createPool({ url, name: 'lookup', max: 4, statementTimeout });
  let sent = 0;
  const query = pool.query.bind(pool) as (...args: unknown[]) => unknown;
  pool.query = ((...args: unknown[]) => {
    sent++;
    return query(...args);
  }) as typeof pool.query;
  const directory = createDirectory({ pool, log: createLogger({ level: 'silent' }), ...options, url });
  opened.push({
    async close() {
      await directory.close();
      await pool.end();
    },
  });
  return { directory, queries: () => sent };
}

const key = (slug: string) => slugKey(slug) ?? 'slug:none';

test('a tenant is found by id and by slug, and then known without a question', async () => {
  const { directory, queries } = openDirectory();
  await directory.listening;
  const { tenantId, slug } = await insertTenant(world);
  expect(directory.peek(key(slug))).toBeUndefined();
  const entry = await directory.find(key(slug));
  expect(entry).toEqual({
    tenantId,
    slug,
    cell: world.cell,
    plan: 'team',
    state: 'active',
    mode: 'open',
    generation: 1,
  });
  expect(directory.peek(`id:${tenantId}`)).toBe(entry);
  expect(await directory.find(key(slug))).toBe(entry);
  expect(queries()).toBe(1);
});

test('a suspension is seen within milliseconds', async () => {
  const { directory } = openDirectory({ maxStalenessMs: 60_000 });
  await directory.listening;
  const took: number[] = [];
  for (let round = 0; round < 10; round++) {
    const { tenantId, slug } = await insertTenant(world);
    await directory.find(key(slug));
    const begun = performance.now();
    await change(world, tenantId, { state: 'suspended', mode: 'blocked' });
    await until('it is forgotten', () => directory.peek(key(slug)) === undefined, 1_000);
    took.push(performance.now() - begun);
    expect(await directory.find(key(slug))).toMatchObject({ state: 'suspended', mode: 'blocked' });
  }
  // `until` asks every 25 ms.
  expect(Math.min(...took)).toBeLessThan(100);
});

test('without notifications an answer is never older than the bound', async () => {
  const bound = 2_000;
  const { directory } = openDirectory({ maxStalenessMs: bound });
  await directory.listening;
  await world.catalogue.pool.query('SELECT 1');
  const admin = new pg.Client({ connectionString: world.url('control') });
  await admin.connect();
  try {
    // As if every notification were lost: the triggers are off while it changes.
    const { tenantId, slug } = await insertTenant(world);
    await directory.find(key(slug));
    await admin.query('ALTER TABLE tenantry.tenant DISABLE TRIGGER USER');
    await admin.query(`UPDATE tenantry.tenant SET state = 'inactive' WHERE id = $1`, [tenantId]);
    const changed = performance.now();
    expect((await lastAskedActive(directory, slug)) - changed).toBeLessThan(bound);
  } finally {
    await admin.query('ALTER TABLE tenantry.tenant ENABLE TRIGGER USER');
    await admin.end();
  }
});

test('a listener that is killed comes back, and forgets what it may have missed', async () => {
  const { directory } = openDirectory({ maxStalenessMs: 60_000 });
  await directory.listening;
  const { tenantId, slug } = await insertTenant(world);
  await directory.find(key(slug));
  const admin = new pg.Client({ connectionString: world.url('control') });
  await admin.connect();
  try {
    await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'tenantry-listener' AND datname = current_database()`,
    );
    await admin.query(`UPDATE tenantry.tenant SET state = 'inactive' WHERE id = $1`, [tenantId]);
  } finally {
    await admin.end();
  }
  await until('it is seen', async () => (await directory.find(key(slug)))?.state === 'inactive', 5_000);
  await until('it listens', () => directory.isListening());
  await change(world, tenantId, { state: 'active' });
  await until('it hears', async () => (await directory.find(key(slug)))?.state === 'active', 1_000);
});

test('a change while it is being read is not overwritten by what was read before it', async () => {
  const { directory } = openDirectory({ maxStalenessMs: 60_000 });
  await directory.listening;
  for (let round = 0; round < 30; round++) {
    const { tenantId, slug } = await insertTenant(world);
    await directory.find(key(slug));
    const changing = change(world, tenantId, { state: 'inactive' });
    const reading = Promise.all(
      Array.from({ length: 5 }, async (_, i) => pause(i).then(() => directory.find(key(slug)))),
    );
    await Promise.all([changing, reading]);
    await until('it is seen', async () => (await directory.find(key(slug)))?.state === 'inactive', 1_000);
  }
});

test('a flood of unknown names costs few statements and bounded memory', async () => {
  const { directory, queries } = openDirectory({ maxUnknown: 100 });
  await directory.listening;
  const names = Array.from({ length: 5_000 }, () => `x-${randomUUID()}`);
  const before = queries();
  const found = await Promise.all(names.map((name) => directory.find(key(name))));
  expect(found.every((entry) => entry === undefined)).toBe(true);
  expect(queries() - before).toBeLessThan(60);
  expect(names.filter((name) => directory.peek(key(name)) === null)).toHaveLength(100);
  // The same name by many at once is one question.
  const again = queries();
  await Promise.all(Array.from({ length: 1_000 }, () => directory.find(key('nobody-at-all'))));
  expect(queries() - again).toBe(1);
});

test('a name that is taken after it was unknown is found when the short memory of it ends', async () => {
  const { directory } = openDirectory({ negativeMs: 1_000 });
  await directory.listening;
  const slug = `late-${randomUUID().slice(0, 8)}`;
  expect(await directory.find(key(slug))).toBeUndefined();
  expect(directory.peek(key(slug))).toBeNull();
  await insertTenant(world, { slug });
  await until('it is found', () => directory.find(key(slug)), 10_000);
});

test('a canary of a cell is no tenant', async () => {
  const { directory } = openDirectory();
  const { rows } = await world.catalogue.pool.query<{ id: string }>('SELECT id FROM tenant WHERE system');
  expect(rows).not.toEqual([]);
  for (const { id } of rows) expect(await directory.find(`id:${id}`)).toBeUndefined();
});

test('the lookup role reads what it needs and nothing else', async () => {
  const client = new pg.Client({
    connectionString: world.url('control', 'lookup'),
    options: '-c search_path=tenantry',
  });
  await client.connect();
  try {
    const granted = await client.query<{ column: string }>(
      `SELECT c.relname || '.' || a.attname AS column FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'tenantry'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.attnum > 0
          AND NOT a.attisdropped AND has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY 1`,
    );
    expect(granted.rows.map((row) => row.column)).toEqual([
      'cell.mongo',
      'cell.mongo_enforcement',
      'cell.name',
      'cell.postgres_runtime',
      'cell.redis',
      'credential.sealed',
      'credential.store',
      'credential.tenant_id',
      'credential.version',
      'tenant.cell',
      'tenant.generation',
      'tenant.id',
      'tenant.mode',
      'tenant.plan',
      'tenant.slug',
      'tenant.state',
      'tenant.system',
    ]);
    const writable = await client.query(
      `SELECT FROM pg_class c WHERE c.relnamespace = 'tenantry'::regnamespace AND c.relkind IN ('r', 'p')
         AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')`,
    );
    expect(writable.rowCount).toBe(0);
    await expect(client.query('CREATE TABLE tenantry.mine (a int)')).rejects.toMatchObject({ code: '42501' });
    await expect(client.query('SELECT name FROM tenant')).rejects.toMatchObject({ code: '42501' });
  } finally {
    await client.end();
  }
});

describe('notifications', () => {
  test('are of what may be cached alone: admitting, making and withdrawing tenants tells nothing', async () => {
    const heard: string[] = [];
    const client = new pg.Client({ connectionString: world.url('control', 'lookup') });
    await client.connect();
    client.on('notification', ({ payload }) => heard.push(payload ?? ''));
    await client.query('LISTEN tenantry_tenant');
    try {
      const { tenantId } = await insertTenant(world, { state: 'provisioning' });
      const gone = await insertTenant(world, { state: 'provisioning' });
      const { pool } = world.catalogue;
      await pool.query(`INSERT INTO credential VALUES ($1, 'redis', 1, '\\x00')`, [tenantId]);
      await change(world, tenantId, { state: 'active' });
      await pool.query('DELETE FROM tenant WHERE id = $1', [gone.tenantId]);
      await client.query('SELECT 1');
      expect(heard).toEqual([]);
      await pool.query('UPDATE tenant SET updated_at = clock_timestamp() WHERE id = $1', [tenantId]);
      await client.query('SELECT 1');
      expect(heard).toEqual([]);
      await change(world, tenantId, { state: 'suspended', mode: 'read-only' });
      await pool.query(`INSERT INTO credential VALUES ($1, 'redis', 2, '\\x00')`, [tenantId]);
      await until('both are heard', () => heard.length === 2);
      expect(new Set(heard)).toEqual(new Set([tenantId]));
    } finally {
      await client.end();
    }
  });
});

test('a password is opened, kept, and read again after a rotation', async () => {
  const { directory } = openDirectory();
  await directory.listening;
  const pool = createPool({ url: world.url('control', 'lookup'), name: 'credentials', max: 2 });
  opened.push({ close: () => pool.end() });
  const { secrets } = world.dependencies;
  const credentials = createCredentials({ pool, secrets, directory });
  const { tenantId } = await insertTenant(world);
  const write = (version: number) =>
    world.catalogue.pool.query('INSERT INTO credential VALUES ($1, $2, $3, $4)', [
      tenantId,
      'redis',
      version,
      secrets.seal(`password-${version}`, { tenantId, store: 'redis', version }),
    ]);
  expect(await codeOf(() => credentials.get(tenantId, 'redis'))).toBe('TENANT_NOT_FOUND');
  await write(1);
  expect(await credentials.get(tenantId, 'redis')).toEqual({ version: 1, password: 'password-1' });
  const kept = await credentials.get(tenantId, 'redis');
  expect(await credentials.get(tenantId, 'redis')).toBe(kept);
  await write(2);
  await until(
    'the new one is there',
    async () => (await credentials.get(tenantId, 'redis')).version === 2,
    1_000,
  );
  const fresh = await credentials.get(tenantId, 'redis', { fresh: true });
  expect(fresh).toEqual({ version: 2, password: 'password-2' });
  expect(fresh).not.toBe(kept);
  expect(await credentials.get(tenantId, 'redis', { fresh: true })).toBe(fresh);
});

/** The moment of the last question that was answered with an active tenant: the bound holds for it, however slow all is. */
async function lastAskedActive(directory: Directory, slug: string): Promise<number> {
  const patience = performance.now() + 20_000;
  for (let last = Number.NEGATIVE_INFINITY; ; ) {
    const asked = performance.now();
    if ((await directory.find(key(slug)))?.state !== 'active') return last;
    if (asked > patience) throw new Error('the tenant is answered as active for ever');
    last = asked;
    await pause(2);
  }
}

describe('on a PostgreSQL of its own, whose processes may be stopped', () => {
  let servers: OwnServers<'control'>;
  let own: World;
  beforeAll(async () => {
    servers = await startOwnServers(['control']);
    own = await createWorld({ ...servers.world, prepare: false });
  });
  afterAll(async () => {
    await own.close();
    await servers.close();
  });

  test('while the listener is deaf an answer is never older than the bound', async () => {
    const maxStalenessMs = 600;
    const { directory } = openDirectory({ url: own.url('control', 'lookup'), maxStalenessMs });
    await directory.listening;
    const { tenantId, slug } = await insertTenant(own);
    const admin = new pg.Client({ connectionString: own.url('control') });
    await admin.connect();
    const { rows } = await admin.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'tenantry-listener'`,
    );
    await admin.end();
    expect(rows).not.toEqual([]);
    await directory.find(key(slug));
    for (const { pid } of rows) process.kill(pid, 'SIGSTOP');
    try {
      await change(own, tenantId, { state: 'inactive' });
      const changed = performance.now();
      const last = await lastAskedActive(directory, slug);
      // It was deaf: what came without a notification came with age.
      expect(last).toBeGreaterThan(changed);
      expect(last - changed).toBeLessThan(maxStalenessMs);
    } finally {
      for (const { pid } of rows) process.kill(pid, 'SIGCONT');
    }
    await until('it listens again', () => directory.isListening());
  }, 90_000);

  test('when the catalogue is away, what is young enough is answered and all else fails', async () => {
    const known = await insertTenant(own);
    const strange = await insertTenant(own);
    const { directory } = openDirectory({ url: own.url('control', 'lookup'), maxStalenessMs: 1_500 }, 500);
    await directory.listening;
    await directory.find(key(known.slug));
    servers.servers.control.pause();
    const paused = performance.now();
    expect(await directory.find(key(known.slug))).toMatchObject({ tenantId: known.tenantId });
    expect(await codeOf(() => directory.find(key(strange.slug)))).toBe('CATALOGUE_UNAVAILABLE');
    await until('the bound has passed', () => performance.now() - paused > 1_500);
    expect(directory.peek(key(known.slug))).toBeUndefined();
    expect(await codeOf(() => directory.find(key(known.slug)))).toBe('CATALOGUE_UNAVAILABLE');
    servers.servers.control.resume();
    await until('it is back', () => directory.find(key(known.slug)).catch(() => undefined));
  }, 90_000);
});

test('a catalogue that says nothing any more keeps nobody from closing', async () => {
  const link = await openLink(world.url('control', 'lookup'));
  try {
    const { directory } = openDirectory({ url: link.url });
    await directory.listening;
    link.hold();
    await directory.close();
  } finally {
    await link.close();
  }
}, 10_000);
