/** A cell's PostgreSQL of a test's own, with tenants whose gates are open, and the scoped pools that reach it. */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { CELL_ROLES, postgresUrl, type RoleName } from '../../../catalogue/bootstrap.js';
import { createPool } from '../../../catalogue/pool.js';
import { newTenantId, type TenantId } from '../../../domain/ids.js';
import { defineManifest, type Manifest } from '../../../domain/manifest.js';
import type { GateMode } from '../../../domain/tenant-state.js';
import supportDesk from '../../../manifest/support-desk.js';
import { setGates } from '../../../tenancy/postgres/gate.js';
import { ensureProductSchema } from '../../../tenancy/postgres/product-schema.js';
import {
  createScopedPostgres,
  type ScopedPostgres,
  type ScopedPostgresOptions,
  type ScopedPostgresPool,
} from '../../../tenancy/postgres/scoped.js';
import { type ContextKey, installContextKey } from '../../../tenancy/postgres/token.js';
import { copyDatabase } from '../../support/databases.js';
import { CELL_TEMPLATE } from '../../support/prepare.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';

export const newContextKey = (id: number): ContextKey => ({ id, secret: randomBytes(32) });

export const manifest: Manifest = defineManifest({
  ...supportDesk,
  postgres: {
    schema: 'app',
    tables: {
      things: {
        columns: {
          id: { type: 'integer' },
          label: { type: 'text' },
          attributes: { type: 'jsonb', nullable: true },
        },
        primaryKey: ['id'],
        unique: [['label']],
      },
      parts: {
        columns: { id: { type: 'integer' }, thing_id: { type: 'integer' } },
        primaryKey: ['id'],
        references: [{ columns: ['thing_id'], table: 'things' }],
      },
    },
  },
});
export const hardenedManifest: Manifest = {
  ...manifest,
  postgres: { ...manifest.postgres, hardened: true },
};

export interface TestCell {
  readonly manifest: Manifest;
  /** As a superuser, in the cell's database. */
  readonly admin: pg.Pool;
  /** Of the cell; a hardened one's scoped pools sign with it. */
  readonly key: ContextKey;
  /** As the catalogue role, which works the gates. */
  readonly control: pg.Pool;
  url(role?: RoleName): string;
  /** A tenant whose gate is open, with one thing: id 1, its label the tenant's id. */
  tenant(): Promise<TenantId>;
  gate(tenant: TenantId, mode: GateMode): Promise<void>;
  pool(options?: Partial<ScopedPostgresOptions>): ScopedPostgresPool;
  /** A tenant's side of a pool of its own. */
  scoped(tenant: TenantId, options?: Partial<ScopedPostgresOptions>): ScopedPostgres;
  /** A connection that nothing guards. */
  raw(role: RoleName): Promise<pg.Client>;
  /** Closes the pools and connections that a test has opened; fails when it left another one open. */
  settle(): Promise<void>;
  /** Settles, and drops the database. */
  close(): Promise<void>;
}

export interface TestCellOptions {
  readonly manifest?: Manifest;
  /** A server of the test's own, as a superuser, with the templates of `prepare.ts`. */
  readonly adminUrl?: string;
}

/** Names of connections. */
const ADMIN = 'test-cell-admin';
const CONTROL = 'test-cell-control';

export async function openCell(options: TestCellOptions = {}): Promise<TestCell> {
  const { postgresUrl: shared, passwords } = testStack();
  const { adminUrl = shared, manifest: product = manifest } = options;
  const database = `cell_${randomBytes(5).toString('hex')}`;
  const server = await connect(adminUrl);
  await copyDatabase(server, {
    name: database,
    template: CELL_TEMPLATE,
    roles: CELL_ROLES,
  });
  const url = (role?: RoleName): string => postgresUrl(adminUrl, database, role, role && passwords);
  const owner = await connect(url('owner'));
  await ensureProductSchema(owner, product);
  const key = newContextKey(1);
  await installContextKey(owner, key);
  await owner.end();
  const admin = createPool({ url: url(), name: ADMIN, max: 2 });
  const control = createPool({ url: url('catalogue'), name: CONTROL, max: 2 });
  const pools: ScopedPostgresPool[] = [];
  const raws: pg.Client[] = [];
  const generations = new Map<TenantId, number>();
  /** But for those of the cell itself. */
  const connections = async (): Promise<unknown[]> =>
    (
      await server.query(
        // Autovacuum comes and goes as it likes.
        `SELECT usename, application_name, state, query FROM pg_stat_activity
          WHERE datname = $1 AND backend_type = 'client backend' AND application_name <> ALL ($2)`,
        [database, [CONTROL, ADMIN]],
      )
    ).rows;
  const cell: TestCell = {
    manifest: product,
    admin,
    key,
    control,
    url,
    async tenant() {
      const tenant = newTenantId();
      await cell.gate(tenant, 'open');
      await admin.query('INSERT INTO app.things (tenant_id, id, label) VALUES ($1, 1, $2)', [tenant, tenant]);
      return tenant;
    },
    async gate(tenant, mode) {
      const generation = (generations.get(tenant) ?? 0) + 1;
      generations.set(tenant, generation);
      await setGates(control, [{ tenantId: tenant, generation }], mode);
    },
    pool(poolOptions = {}) {
      const pool = createScopedPostgres({
        url: url('runtime'),
        name: 'test-scoped',
        hardened: product.postgres.hardened ? { key: () => key } : undefined,
        ...poolOptions,
      });
      pools.push(pool);
      return pool;
    },
    scoped: (tenant, poolOptions) => cell.pool(poolOptions).forTenant({ tenantId: tenant }),
    async raw(role) {
      const client = await connect(url(role));
      raws.push(client);
      return client;
    },
    async settle() {
      await Promise.all([
        ...pools.splice(0).map((pool) => pool.close()),
        ...raws.splice(0).map((client) => client.end()),
      ]);
      // A backend needs a moment to notice that its client has gone.
      await until('every connection is closed', async () => (await connections()).length === 0, 3_000).catch(
        () => undefined,
      );
      expect(await connections()).toEqual([]);
    },
    async close() {
      try {
        await cell.settle();
      } finally {
        await Promise.all([control.end(), admin.end()]);
        await server.query(`DROP DATABASE ${database} WITH (FORCE)`);
        await server.end();
      }
    },
  };
  return cell;
}

export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  // A test may cut it.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** The SQLSTATE or the code of the table with which a promise is rejected; `nothing` when it is not. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing';
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
}

/** How many backends of the product's role run a statement with this text in it. */
export async function running({ admin }: TestCell, text: string): Promise<number> {
  const { rowCount } = await admin.query(
    `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'tenantry_runtime' AND state <> 'idle'
        AND query LIKE '%' || $1 || '%'`,
    [text],
  );
  return rowCount ?? 0;
}

export const isRunning = async (cell: TestCell, text: string): Promise<boolean> =>
  (await running(cell, text)) > 0;

/** The labels of all things that a tenant sees. */
export const labels = async (scoped: Pick<ScopedPostgres, 'query'>): Promise<string[]> =>
  (await scoped.query<{ label: string }>('SELECT label FROM app.things ORDER BY id')).rows.map(
    ({ label }) => label,
  );

/** The process in the server that serves it just now. */
export const backendOf = async (scoped: Pick<ScopedPostgres, 'query'>): Promise<number> =>
  (await scoped.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid ?? 0;
