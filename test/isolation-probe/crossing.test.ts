/** Where the catalogue says that all is well: policies that read the gate, and still let another tenant through. */
import pg from 'pg';
import { createPool } from '../../catalogue/pool.js';
import type { TenantId } from '../../domain/ids.js';
import { crossPostgres } from '../../tenancy/postgres/crossing.js';
import { probePostgres } from '../../tenancy/postgres/probe.js';
import { finishedRun } from '../support/runs.js';
import { createWorld, type World } from '../support/world.js';

/** True of every row, as soon as any gate is seen. */
const CARELESS = 'EXISTS (SELECT FROM tenantry.gate)';

let world: World;
let admin: pg.Client;
let runtime: pg.Pool;
let [one, other] = ['', ''] as TenantId[] as [TenantId, TenantId];
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker();
  [one, other] = [(await finishedRun(world)).tenantId, (await finishedRun(world)).tenantId];
  admin = new pg.Client({ connectionString: world.url('cell') });
  await admin.connect();
  runtime = createPool({ url: world.url('cell', 'runtime'), name: 'test-crossing', max: 1 });
});
afterAll(async () => {
  await runtime.end();
  await admin.end();
  await world.close();
});

test('tenants at work: rows that are seen are found by looking at them', async () => {
  const cross = (): Promise<void> => crossPostgres(runtime, world.manifest, one, other);
  await admin.query(
    `INSERT INTO app.customers (tenant_id, id, email, name, created_at)
     VALUES ($1, gen_random_uuid(), 'a@example.com', 'A', now())`,
    [other],
  );
  await expect(cross()).resolves.toBeUndefined();
  await admin.query(
    `CREATE POLICY careless ON app.customers FOR SELECT TO tenantry_runtime USING (${CARELESS})`,
  );
  await expect(cross()).rejects.toMatchObject({
    code: 'ISOLATION_BREACH',
    params: { store: 'PostgreSQL', probe: 'read customers' },
  });
  await admin.query('DROP POLICY careless ON app.customers');
});

test('a new tenant: a row that another writes for it is found by writing it', async () => {
  const probe = (): Promise<unknown> => probePostgres(runtime, world.manifest, one, other);
  await expect(probe()).resolves.toMatchObject({ otherTenantWrite: 'SQLSTATE 42501' });
  await admin.query(
    `CREATE POLICY careless ON app.customers FOR INSERT TO tenantry_runtime WITH CHECK (${CARELESS})`,
  );
  await expect(probe()).rejects.toMatchObject({
    code: 'ISOLATION_BREACH',
    params: { store: 'PostgreSQL', probe: 'write customers' },
  });
  await admin.query('DROP POLICY careless ON app.customers');
});
