// A cell's database with so many tenants, and in it the same rows three times: without any security, with a policy and
// nothing else, and as Tenantry keeps them.

import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { bootstrap, postgresUrl, ROLES, type RolePasswords } from '../catalogue/bootstrap.js';
import { newTenantId, type TenantId } from '../domain/ids.js';
import { defineManifest, type Manifest } from '../domain/manifest.js';
import { TENANT_SETTING } from '../tenancy/postgres/context-sql.js';
import { ensureProductSchema } from '../tenancy/postgres/product-schema.js';
import { type ContextKey, installContextKey } from '../tenancy/postgres/token.js';

/**
 * Where the rows are: `bare` has no row-level security, `setting` a policy on the tenant of the transaction alone, and
 * `app` the policies that Tenantry makes, with the gate; in a hardened cell the gate goes by a verified token.
 */
export type Shape = 'bare' | 'setting' | 'app';

export interface BenchCell {
  /** As the runtime role. */
  readonly url: string;
  readonly tenants: readonly TenantId[];
  readonly key: ContextKey;
}

export const ROWS_PER_TENANT = 20;

/** The rows of every tenant have the same ids, so that a policy which lets through another's would show. */
export const rowId = (row: number): string => `00000000-0000-4000-8000-${String(row).padStart(12, '0')}`;

const manifest = (hardened: boolean): Manifest =>
  defineManifest({
    product: 'bench',
    version: 1,
    plans: { team: { limits: {} } },
    postgres: {
      schema: 'app',
      hardened,
      tables: {
        tickets: {
          columns: {
            id: { type: 'uuid' },
            subject: { type: 'text' },
            open: { type: 'boolean' },
            created_at: { type: 'timestamptz' },
          },
          primaryKey: ['id'],
        },
      },
    },
    mongo: { collections: {} },
    redis: { namespaces: {} },
  });

/** Passwords of the roles, which all cells of a server share. */
export const newPasswords = (): RolePasswords =>
  Object.fromEntries(
    Object.keys(ROLES).map((role) => [role, randomBytes(18).toString('base64url')]),
  ) as unknown as RolePasswords;

/** @param adminUrl a superuser of a server that is for benchmarks only */
export async function createCell(
  adminUrl: string,
  passwords: RolePasswords,
  o: { readonly database: string; readonly tenants: number; readonly hardened?: boolean },
): Promise<BenchCell> {
  const { database } = o;
  await bootstrap({ adminUrl, passwords, controlDatabase: database, cellDatabase: database });
  const key = { id: 1, secret: randomBytes(32) };
  await connected(postgresUrl(adminUrl, database, 'owner', passwords), async (owner) => {
    await ensureProductSchema(owner, manifest(o.hardened ?? false));
    await installContextKey(owner, key);
    for (const [shape, policy] of Object.entries(OTHER_SHAPES)) await owner.query(tableLike(shape, policy));
  });
  const tenants = Array.from({ length: o.tenants }, newTenantId);
  // A superuser is bound by no policy.
  await connected(postgresUrl(adminUrl, database), async (admin) => {
    await admin.query(
      `INSERT INTO tenantry.gate (tenant_id, mode, generation) SELECT id, 'open', 1 FROM unnest($1::uuid[]) AS id`,
      [tenants],
    );
    for (const shape of ['bare', 'setting', 'app'] satisfies Shape[])
      await admin.query(
        `INSERT INTO ${shape}.tickets (tenant_id, id, subject, open, created_at)
         SELECT tenant, ('00000000-0000-4000-8000-' || lpad(row::text, 12, '0'))::uuid, 'ticket ' || row, true, now()
           FROM unnest($1::uuid[]) AS tenant, generate_series(0, $2::int - 1) AS row`,
        [tenants, ROWS_PER_TENANT],
      );
    // So that the server does neither of them in the middle of a sample.
    await admin.query('VACUUM (ANALYZE, FREEZE)');
    await admin.query('CHECKPOINT');
  });
  return { url: postgresUrl(adminUrl, database, 'runtime', passwords), tenants, key };
}

const OTHER_SHAPES = {
  bare: undefined,
  setting: `tenant_id = current_setting('${TENANT_SETTING}')::uuid`,
} satisfies Record<Exclude<Shape, 'app'>, string | undefined>;

const tableLike = (shape: string, policy: string | undefined): string => `
  CREATE SCHEMA ${shape};
  GRANT USAGE ON SCHEMA ${shape} TO tenantry_runtime;
  CREATE TABLE ${shape}.tickets (LIKE app.tickets INCLUDING ALL);
  GRANT SELECT ON ${shape}.tickets TO tenantry_runtime;
  ${
    policy === undefined
      ? ''
      : `ALTER TABLE ${shape}.tickets ENABLE ROW LEVEL SECURITY;
         ALTER TABLE ${shape}.tickets FORCE ROW LEVEL SECURITY;
         CREATE POLICY tenant_select ON ${shape}.tickets FOR SELECT TO tenantry_runtime USING (${policy});`
  }`;

async function connected(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'tenantry-bench' });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
