/** A hardened cell from end to end: the worker prepares and probes it, a product works in it, its keys are replaced. */
import type { TenantId } from '../../../domain/ids.js';
import type { Manifest } from '../../../domain/manifest.js';
import supportDesk from '../../../manifest/support-desk.js';
import type { PreparedCell } from '../../../tenancy/cell-registry.js';
import { openTenantry, productStores, type Tenantry } from '../../../tenancy/index.js';
import { crossPostgres } from '../../../tenancy/postgres/crossing.js';
import { probePostgres } from '../../../tenancy/postgres/probe.js';
import { inspectRowSecurity } from '../../../tenancy/postgres/row-security.js';
import { compose } from '../../../worker/compose.js';
import { startProvision } from '../../support/provision.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { signingKeys } from '../context/support.js';
import { codeOf, connect } from './support.js';

const manifest: Manifest = { ...supportDesk, postgres: { ...supportDesk.postgres, hardened: true } };

let world: World;
let cell: PreparedCell;
let acme: TenantId;
let initech: TenantId;
let tenantry: Tenantry;
let signingWith = 1;
beforeAll(async () => {
  world = await createWorld({ manifest });
  cell = await world.dependencies.cells.get(world.cell);
  await world.startWorker();
  // Provisioning ends with the probes, which come with tokens of their own.
  [acme, initech] = await Promise.all([provisioned(), provisioned()]);
  tenantry = openTenantry({
    catalogueUrl: world.url('control', 'lookup'),
    rootKey: rootKey(),
    contextKeyId: () => signingWith,
    signingKeys,
    resolveSecret,
    stores: productStores({ manifest }),
  });
});
afterAll(async () => {
  await tenantry.close();
  await world.close();
});

const rootKey = (): Buffer => Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64');
const resolveSecret = (reference: string): string => world.env[reference.replace(/^env:/, '')] ?? '';
async function provisioned(): Promise<TenantId> {
  const asked = await world.ask();
  const { handle } = await startProvision(world, asked);
  await handle.result();
  return asked.tenantId;
}
const emails = (tenant: TenantId): Promise<unknown[]> =>
  tenantry.runWithTenant(tenant, async ({ pg }) => (await pg.query('SELECT email FROM app.customers')).rows);

it('a product works in it as in any other', async () => {
  await tenantry.runWithTenant(acme, ({ pg, tenantId }) =>
    pg.query(
      `INSERT INTO app.customers (tenant_id, id, email, name, created_at)
       VALUES ($1, gen_random_uuid(), 'a@acme.example', 'A', now())`,
      [tenantId],
    ),
  );
  expect(await emails(acme)).toEqual([{ email: 'a@acme.example' }]);
  expect(await emails(initech)).toEqual([]);
  const raw = await connect(world.url('cell', 'runtime'));
  await raw.query('BEGIN');
  await raw.query('SELECT FROM tenantry.enter($1, NULL, NULL)', [acme]);
  expect(await codeOf(raw.query('SELECT FROM app.customers'))).toBe('42704');
  await raw.end();
});

it('a probe sees that a name without a token is nobody’s', async () => {
  const evidence = await probePostgres(cell.postgres.runtime, manifest, initech, acme, cell.switchTo);
  expect(evidence).toMatchObject({ otherTenantSaw: 0, noTenantRead: 'SQLSTATE TN002' });
  await crossPostgres(cell.postgres.runtime, manifest, acme, initech, cell.switchTo);
  expect(await inspectRowSecurity(cell.postgres.runtime, manifest)).toBeUndefined();
});

it('the token of a probe is in no text that the server shows or keeps', async () => {
  const holder = await connect(world.url('cell'));
  // Not the holder: within a transaction a list of statements stays as it was first seen.
  const onlooker = await connect(world.url('cell'));
  const waiting = `SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
  try {
    for (const probe of [probePostgres, crossPostgres]) {
      await holder.query('BEGIN; LOCK TABLE app.customers');
      const probing = probe(cell.postgres.runtime, manifest, initech, acme, cell.switchTo);
      const text = await until(
        'the probe waits for the table',
        async () => (await onlooker.query<{ query: string }>(waiting)).rows[0]?.query,
      );
      await holder.query('ROLLBACK');
      await probing;
      expect(text).toContain('customers');
      expect(text).not.toMatch(/[0-9a-f]{64}/);
    }
  } finally {
    await holder.end();
    await onlooker.end();
  }
});

it('a gate that goes by names alone, in a cell that ought to be hardened, is a breach', async () => {
  const gate = (using: string): Promise<unknown> =>
    cell.postgres.owner.query(`ALTER POLICY own_gate ON tenantry.gate USING (${using})`);
  await gate(`tenant_id = current_setting('app.tenant_id')::uuid`);
  try {
    const breach = { code: 'ISOLATION_BREACH' };
    await expect(
      probePostgres(cell.postgres.runtime, manifest, initech, acme, cell.switchTo),
    ).rejects.toMatchObject(breach);
    await expect(
      crossPostgres(cell.postgres.runtime, manifest, acme, initech, cell.switchTo),
    ).rejects.toMatchObject(breach);
    expect(await inspectRowSecurity(cell.postgres.runtime, manifest)).toMatchObject({
      detail: 'a policy of gate',
      breach: true,
    });
  } finally {
    await gate('tenant_id = (SELECT tenantry.verified_tenant())');
  }
});

it('a gate without row-level security is a breach', async () => {
  const security = (how: string): Promise<unknown> =>
    cell.postgres.owner.query(`ALTER TABLE tenantry.gate ${how} ROW LEVEL SECURITY`);
  await security('DISABLE');
  try {
    expect(await inspectRowSecurity(cell.postgres.runtime, manifest)).toMatchObject({
      detail: 'row-level security of gate',
    });
  } finally {
    await security('ENABLE');
  }
});

it('its key is replaced by its id: worker, product, worker', async () => {
  const prepare = async (...contextKeyIds: number[]): Promise<void> => {
    const { catalogue, log } = world.dependencies;
    const composition = compose({
      catalogue,
      manifest,
      rootKey: rootKey(),
      contextKeyIds,
      resolveSecret,
      poolSize: 2,
      log,
    });
    const prepared = await composition.dependencies.cells.get(world.cell);
    await crossPostgres(prepared.postgres.runtime, manifest, acme, initech, prepared.switchTo);
    await composition.close();
  };
  const before = await emails(acme);
  await prepare(1, 2);
  expect(await emails(acme)).toEqual(before);
  signingWith = 2;
  expect(await emails(acme)).toEqual(before);
  await prepare(2);
  expect(await emails(acme)).toEqual(before);
  signingWith = 1;
  expect(await codeOf(emails(acme))).toBe('TN002');
  signingWith = 2;
});
