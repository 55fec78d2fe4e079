/**
 * Ways by which a cell's PostgreSQL stops isolating tenants, each with what the doctor says of it: its tables, keys and
 * policies. `app` is the schema of the sample product.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';

export interface Way {
  readonly way: string;
  /** As the superuser; several statements, `$database` for the cell's. */
  readonly open: string;
  /** In short, `$database` for the cell's. */
  readonly found: readonly string[];
}

export const way = (name: string, open: string, ...found: string[]): Way => ({ way: name, open, found });

const GATED = `tenant_id = (SELECT g.tenant_id FROM tenantry.gate g
  WHERE g.tenant_id = current_setting('app.tenant_id')::uuid AND g.mode IN ('open', 'read-only'))`;
const GATED_OR_NOBODY = GATED.replace("'app.tenant_id')", "'app.tenant_id', true)");

export const TABLES: readonly Way[] = [
  way(
    'row-level security off',
    'ALTER TABLE app.messages DISABLE ROW LEVEL SECURITY',
    'table app.messages: row-security-enabled',
  ),
  way(
    'row-level security not forced',
    'ALTER TABLE app.messages NO FORCE ROW LEVEL SECURITY',
    'table app.messages: row-security-forced',
  ),
  way(
    "the gate's row-level security off",
    'ALTER TABLE tenantry.gate DISABLE ROW LEVEL SECURITY',
    'table tenantry.gate: row-security-enabled',
  ),
  way(
    'a table that the manifest lacks',
    `CREATE TABLE app.notes (tenant_id uuid, body text); GRANT SELECT ON app.notes TO ${ROLES.runtime}`,
    'table app.notes: undeclared-table-locked',
  ),
  way(
    'a table that the manifest lacks, with a right on one column',
    `CREATE TABLE app.notes (body text); ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
     GRANT SELECT (body) ON app.notes TO PUBLIC`,
    'table app.notes: undeclared-table-locked',
  ),
  way(
    'a child of a table, which its policies do not bind',
    `CREATE TABLE app.messages_old () INHERITS (app.messages); GRANT SELECT ON app.messages_old TO ${ROLES.runtime}`,
    'table app.messages_old: partition-locked',
  ),
  way(
    'a foreign table',
    `CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far;
     CREATE FOREIGN TABLE app.far (id int) SERVER far; GRANT SELECT ON app.far TO ${ROLES.runtime}`,
    'foreign table app.far: undeclared-table-locked',
  ),
  way(
    'a declared table missing',
    'DROP TABLE app.messages',
    'table "app"."messages": declared-table-present',
  ),
  way(
    'a table missing to which another refers',
    'DROP TABLE app.conversations CASCADE',
    'table "app"."conversations": declared-table-present',
    'constraint app.messages: declared-reference-present',
  ),
  way(
    'tenant_id nullable',
    `ALTER TABLE app.messages DROP CONSTRAINT messages_pkey, ADD PRIMARY KEY (id);
     ALTER TABLE app.messages ALTER COLUMN tenant_id DROP NOT NULL`,
    'column app.messages.tenant_id: tenant-column-not-null',
    'constraint app.messages.messages_pkey: primary-key-tenant-first',
  ),
  way(
    'a counter of all tenants in a column',
    'ALTER TABLE app.messages ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY',
    'column app.messages.number: no-shared-counter',
  ),
  way(
    'a column that draws from a sequence',
    'ALTER TABLE app.messages ADD COLUMN number bigserial',
    'column app.messages.number: no-shared-counter',
  ),
];

export const KEYS: readonly Way[] = [
  way(
    'no primary key',
    'ALTER TABLE app.messages DROP CONSTRAINT messages_pkey',
    'constraint app.messages: primary-key-tenant-first',
  ),
  way(
    'a primary key of all tenants, with a plain reference to it',
    `ALTER TABLE app.customers DROP CONSTRAINT customers_pkey CASCADE, ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
     ALTER TABLE app.conversations ADD CONSTRAINT plain FOREIGN KEY (customer_id) REFERENCES app.customers (id)`,
    'constraint app.customers.customers_pkey: primary-key-tenant-first',
    'constraint app.conversations.plain: reference-composite',
  ),
  way(
    'a unique key of all tenants',
    'ALTER TABLE app.customers ADD CONSTRAINT one_name UNIQUE (name) DEFERRABLE',
    'constraint app.customers.one_name: unique-tenant-first',
  ),
  way(
    'a unique key of all tenants beside the one for each',
    'ALTER TABLE app.customers ADD CONSTRAINT one_mail UNIQUE (email)',
    'constraint app.customers.one_mail: unique-tenant-first',
  ),
  way(
    'a unique key with the tenant last',
    'ALTER TABLE app.customers ADD CONSTRAINT one_name UNIQUE (name, tenant_id)',
    'constraint app.customers.one_name: unique-tenant-first',
  ),
  way(
    'a unique index of an expression, over some rows of all tenants',
    `CREATE UNIQUE INDEX one_lower ON app.customers (lower(email) DESC) INCLUDE (name) WHERE name <> ' USING btree ('`,
    'index app.one_lower: unique-tenant-first',
  ),
  way(
    'an exclusion over all tenants',
    'ALTER TABLE app.customers ADD CONSTRAINT alone EXCLUDE USING btree (name WITH =)',
    'constraint app.customers.alone: exclusion-tenant-first',
  ),
  way(
    'a plain reference in the place of the declared one',
    `ALTER TABLE app.conversations DROP CONSTRAINT conversations_tenant_id_customer_id_fkey;
     ALTER TABLE app.customers ADD CONSTRAINT id_alone UNIQUE (id);
     ALTER TABLE app.conversations ADD CONSTRAINT plain FOREIGN KEY (customer_id) REFERENCES app.customers (id)`,
    'constraint app.customers.id_alone: unique-tenant-first',
    'constraint app.conversations.plain: reference-composite',
  ),
  way(
    'a reference that was never validated',
    `ALTER TABLE app.conversations DROP CONSTRAINT conversations_tenant_id_customer_id_fkey,
       ADD CONSTRAINT later FOREIGN KEY (tenant_id, customer_id) REFERENCES app.customers (tenant_id, id) NOT VALID`,
    'constraint app.conversations.later: reference-composite',
  ),
  way(
    'a reference to a table of nobody',
    `CREATE SCHEMA other; CREATE TABLE other.countries (id uuid PRIMARY KEY);
     ALTER TABLE app.messages ADD CONSTRAINT abroad FOREIGN KEY (id) REFERENCES other.countries`,
    'constraint app.messages.abroad: reference-within-the-manifest',
  ),
  way(
    'a declared reference missing',
    'ALTER TABLE app.conversations DROP CONSTRAINT conversations_tenant_id_customer_id_fkey',
    'constraint app.conversations: declared-reference-present',
  ),
  way(
    'a key of a part of a table in another schema',
    `CREATE SCHEMA hidden; CREATE TABLE hidden.old () INHERITS (app.messages);
     CREATE UNIQUE INDEX old_id ON hidden.old (id)`,
    'index hidden.old_id: unique-tenant-first',
  ),
];

export const POLICIES: readonly Way[] = [
  way(
    'a policy missing',
    'DROP POLICY tenant_update ON app.messages',
    'policy app.messages.tenant_update: policy-present',
  ),
  way(
    'a policy widened',
    'ALTER POLICY tenant_select ON app.messages USING (true)',
    'policy app.messages.tenant_select: policy-as-made',
  ),
  way(
    'a policy that reads the gate and lets others through',
    `ALTER POLICY tenant_delete ON app.messages USING (${GATED} OR true)`,
    'policy app.messages.tenant_delete: policy-as-made',
  ),
  way(
    'a policy that goes by the tenant and not by the gate',
    `ALTER POLICY tenant_select ON app.messages USING (tenant_id = current_setting('app.tenant_id')::uuid)`,
    'policy app.messages.tenant_select: policy-as-made',
  ),
  way(
    'a policy that opens another mode of the gate',
    `ALTER POLICY tenant_select ON app.messages USING (${GATED.replace("'open'", "'open', 'blocked'")})`,
    'policy app.messages.tenant_select: policy-as-made',
  ),
  way(
    'WITH CHECK of anything',
    'ALTER POLICY tenant_insert ON app.messages WITH CHECK (true)',
    'policy app.messages.tenant_insert: policy-as-made',
  ),
  way(
    'WITH CHECK missing',
    `DROP POLICY tenant_update ON app.messages;
     CREATE POLICY tenant_update ON app.messages FOR UPDATE TO ${ROLES.runtime} USING (${GATED})`,
    'policy app.messages.tenant_update: policy-as-made',
  ),
  way(
    'a policy for PUBLIC',
    'ALTER POLICY tenant_select ON app.messages TO PUBLIC',
    'policy app.messages.tenant_select: policy-as-made',
  ),
  way(
    'a policy to which no tenant is no error',
    `ALTER POLICY tenant_select ON app.messages USING (${GATED_OR_NOBODY})`,
    'policy app.messages.tenant_select: policy-refuses-no-tenant',
  ),
  way(
    'a policy whose tenant is another by a cast that reads the same',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.other(text) RETURNS uuid LANGUAGE sql
       AS $$ SELECT '00000000-0000-4000-8000-000000000001'::varchar::uuid $$;
     CREATE CAST (text AS uuid) WITH FUNCTION hidden.other(text);
     ALTER POLICY tenant_select ON app.messages USING (${GATED})`,
    'other cast (text AS uuid): context-cast-as-made',
    'policy app.messages.tenant_select: policy-as-made',
  ),
  way(
    'a cast by which another tenant is entered',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.other(uuid) RETURNS text LANGUAGE sql
       AS $$ SELECT '00000000-0000-4000-8000-000000000001'::varchar $$;
     CREATE CAST (uuid AS text) WITH FUNCTION hidden.other(uuid)`,
    'other cast (uuid AS text): context-cast-as-made',
  ),
  way(
    'a policy beside ours',
    'CREATE POLICY everything ON app.messages FOR SELECT USING (true)',
    'policy app.messages.everything: policy-of-ours-only',
  ),
  way(
    'a policy that only restricts, by a function that is called before ours are asked',
    `CREATE FUNCTION app.shown(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
       AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END';
     CREATE POLICY shown ON app.messages AS RESTRICTIVE USING (app.shown(body))`,
    'policy app.messages.shown: policy-asked-after-ours',
  ),
  way(
    'a gate that everybody reads',
    'ALTER POLICY own_gate ON tenantry.gate USING (true)',
    'policy tenantry.gate.own_gate: policy-as-made',
  ),
];
