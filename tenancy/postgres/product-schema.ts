/**
 * The product's tables in a cell, made from the manifest: tenant-first keys, row-level security on every table,
 * forced, with the gate inside each policy. Policies are static, one set per table and never per tenant.
 */
import { createHash } from 'node:crypto';
import { escapeIdentifier, type ClientBase } from 'pg';
import { inLockedTransaction } from '../../catalogue/lock.js';
import { canonicalJson } from '../../domain/canonical-json.js';
import { TenantryError } from '../../domain/errors.js';
import { type Manifest, type TableSpec, tablesInOrder } from '../../domain/manifest.js';
import { CONTEXT_FUNCTIONS, TENANT_SETTING } from './context-sql.js';

const CONTEXT = `current_setting('${TENANT_SETTING}')::uuid`;
/** A sub-select, so that it is evaluated once for each statement. */
const VERIFIED = '(SELECT tenantry.verified_tenant())';

/** The tenant of the context if its gate stands at one of the modes; an InitPlan, one index lookup per statement. */
const admitted = (modes: string): string =>
  `(SELECT g.tenant_id FROM tenantry.gate g WHERE g.tenant_id = ${CONTEXT} AND g.mode IN (${modes}))`;
const READABLE = admitted(`'open', 'read-only'`);
const WRITABLE = admitted(`'open'`);
const PURGEABLE = admitted(`'purging'`);

/**
 * What every cell has, whatever its product: the gate, the way in, and the record of the tables that are ours. Hardened,
 * the gate shows itself to the tenant of a verified token alone; and as every policy reads the gate, so does every table.
 */
export const cellSchema = (hardened: boolean): string => `
  CREATE TABLE IF NOT EXISTS tenantry.gate (
    tenant_id   uuid PRIMARY KEY,
    mode        text NOT NULL CHECK (mode IN ('open', 'read-only', 'blocked', 'purging')),
    generation  bigint NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
  );
  CREATE TABLE IF NOT EXISTS tenantry.product_table (
    schema_name  text NOT NULL,
    table_name   text NOT NULL,
    spec_hash    text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schema_name, table_name)
  );
  ALTER TABLE tenantry.gate ENABLE ROW LEVEL SECURITY;
  ALTER TABLE tenantry.gate FORCE ROW LEVEL SECURITY;
  -- A tenant's context reads its own gate, so the gate is no list of the cell's tenants.
  DROP POLICY IF EXISTS own_gate ON tenantry.gate;
  CREATE POLICY own_gate ON tenantry.gate FOR SELECT TO tenantry_runtime
    USING (tenant_id = ${hardened ? VERIFIED : CONTEXT});
  DROP POLICY IF EXISTS purge_gate ON tenantry.gate;
  CREATE POLICY purge_gate ON tenantry.gate FOR SELECT TO tenantry_purge USING (tenant_id = ${CONTEXT});
  DROP POLICY IF EXISTS control ON tenantry.gate;
  CREATE POLICY control ON tenantry.gate TO tenantry_catalogue USING (true) WITH CHECK (true);
  GRANT USAGE ON SCHEMA tenantry TO tenantry_runtime, tenantry_purge, tenantry_catalogue;
  GRANT SELECT ON tenantry.gate TO tenantry_runtime, tenantry_purge;
  GRANT SELECT, INSERT, UPDATE, DELETE ON tenantry.gate TO tenantry_catalogue;
  GRANT SELECT ON tenantry.product_table TO tenantry_catalogue;
`;

/**
 * Makes what is missing, in one transaction; safe to repeat and to run from two processes at once.
 * @param owner a connection as the schema owner
 * @throws TenantryError NAME_TAKEN when a table of that name is there that Tenantry did not make, STORE_REFUSED when
 *   the manifest changed a table that exists.
 */
export async function ensureProductSchema(
  owner: ClientBase,
  manifest: Manifest,
): Promise<{ created: string[] }> {
  return inLockedTransaction(owner, 'product-schema', async () => {
    await ensureCellSchema(owner, manifest);
    const { schema } = manifest.postgres;
    const known = await knownTables(owner, schema);
    const created: string[] = [];
    for (const [name, table] of tablesInOrder(manifest)) {
      const hash = tableHash(table);
      const recorded = known.get(name);
      if (recorded === hash) continue;
      if (recorded !== undefined)
        throw new TenantryError('STORE_REFUSED', {
          store: 'PostgreSQL',
          reason: `table ${name} has another shape`,
        });
      await refuseForeign(owner, schema, name);
      await owner.query(createTable(manifest, name, table));
      await recordTable(owner, schema, name, table);
      created.push(name);
    }
    return { created };
  });
}

/** Nothing when it is as it should be: its locks on the gate would make every statement of the cell wait. */
export async function ensureCellSchema(owner: ClientBase, { postgres }: Manifest): Promise<void> {
  const schema = cellSchema(postgres.hardened);
  const mark = `as of ${createHash('sha256').update(CONTEXT_FUNCTIONS).update(schema).digest('hex')}`;
  const { rows } = await owner.query<{ mark: string | null }>(
    `SELECT obj_description(to_regclass('tenantry.product_table'), 'pg_class') AS mark`,
  );
  if (rows[0]?.mark === mark) return;
  await owner.query(CONTEXT_FUNCTIONS);
  await owner.query(schema);
  await owner.query(`COMMENT ON TABLE tenantry.product_table IS '${mark}'`);
}

export const qualified = (manifest: Manifest, table: string): string =>
  `${escapeIdentifier(manifest.postgres.schema)}.${escapeIdentifier(table)}`;

export async function knownTables(owner: ClientBase, schema: string): Promise<Map<string, string>> {
  const { rows } = await owner.query<{ table_name: string; spec_hash: string }>(
    'SELECT table_name, spec_hash FROM tenantry.product_table WHERE schema_name = $1',
    [schema],
  );
  return new Map(rows.map((row) => [row.table_name, row.spec_hash]));
}

/** As made from `table`, or found to be so. */
export async function recordTable(
  owner: ClientBase,
  schema: string,
  name: string,
  table: TableSpec,
): Promise<void> {
  await owner.query(
    'INSERT INTO tenantry.product_table (schema_name, table_name, spec_hash) VALUES ($1, $2, $3)',
    [schema, name, tableHash(table)],
  );
}

async function refuseForeign(owner: ClientBase, schema: string, name: string): Promise<void> {
  const { rowCount } = await owner.query(
    `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
    [schema, name],
  );
  if (rowCount !== 0) throw new TenantryError('NAME_TAKEN', { kind: `table (${name})`, store: 'PostgreSQL' });
}

export function createTable(manifest: Manifest, name: string, table: TableSpec): string {
  const target = qualified(manifest, name);
  const list = (columns: readonly string[]): string =>
    ['tenant_id', ...columns].map(escapeIdentifier).join(', ');
  const lines = [
    'tenant_id uuid NOT NULL',
    ...Object.entries(table.columns).map(
      ([column, { type, nullable }]) => `${escapeIdentifier(column)} ${type}${nullable ? '' : ' NOT NULL'}`,
    ),
    `PRIMARY KEY (${list(table.primaryKey)})`,
    ...table.unique.map((columns) => `UNIQUE (${list(columns)})`),
    // Composite, so that a row can never name another tenant's parent.
    ...table.references.map(
      (reference) =>
        `FOREIGN KEY (${list(reference.columns)}) REFERENCES ${qualified(manifest, reference.table)} ` +
        `(${list(manifest.postgres.tables[reference.table]?.primaryKey ?? [])}) ON DELETE ${reference.onDelete}`,
    ),
  ];
  const policy = (policyName: string, rule: string): string =>
    `CREATE POLICY ${policyName} ON ${target} ${rule};`;
  return `
    CREATE SCHEMA IF NOT EXISTS ${escapeIdentifier(manifest.postgres.schema)};
    GRANT USAGE ON SCHEMA ${escapeIdentifier(manifest.postgres.schema)} TO tenantry_runtime, tenantry_purge;
    CREATE TABLE ${target} (${lines.join(', ')});
    ${table.indexes.map((columns) => `CREATE INDEX ON ${target} (${list(columns)});`).join('\n')}
    ALTER TABLE ${target} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ${target} FORCE ROW LEVEL SECURITY;
    ${policy('tenant_select', `FOR SELECT TO tenantry_runtime USING (tenant_id = ${READABLE})`)}
    ${policy('tenant_insert', `FOR INSERT TO tenantry_runtime WITH CHECK (tenant_id = ${WRITABLE})`)}
    ${policy(
      'tenant_update',
      // Readable, not writable, in USING: a write to a read-only tenant fails loudly and is not zero rows.
      `FOR UPDATE TO tenantry_runtime USING (tenant_id = ${READABLE}) WITH CHECK (tenant_id = ${WRITABLE})`,
    )}
    ${policy('tenant_delete', `FOR DELETE TO tenantry_runtime USING (tenant_id = ${WRITABLE})`)}
    ${policy('purge_select', `FOR SELECT TO tenantry_purge USING (tenant_id = ${PURGEABLE})`)}
    ${policy('purge_delete', `FOR DELETE TO tenantry_purge USING (tenant_id = ${PURGEABLE})`)}
    GRANT SELECT, INSERT, UPDATE, DELETE ON ${target} TO tenantry_runtime;
    GRANT SELECT, DELETE ON ${target} TO tenantry_purge;`;
}

/** Of the columns and keys, wherever the table came from, and of the policies that this version of Tenantry makes. */
export const tableHash = ({ adopt: _adopt, ...table }: TableSpec): string =>
  createHash('sha256')
    .update(canonicalJson({ table, policies: 1 }))
    .digest('hex');
