/**
 * Ways by which a cell's PostgreSQL stops isolating tenants, each with what the doctor says of it. `app` is the schema of
 * the sample product.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';

export interface Way {
  readonly way: string;
  /** As the superuser; several statements, `$database` for the cell's. */
  readonly open: string;
  /** In short, `$database` for the cell's. */
  readonly found: readonly string[];
}

const way = (name: string, open: string, ...found: string[]): Way => ({ way: name, open, found });

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
    'a policy beside ours',
    'CREATE POLICY everything ON app.messages FOR SELECT USING (true)',
    'policy app.messages.everything: policy-of-ours-only',
  ),
  way(
    'a gate that everybody reads',
    'ALTER POLICY own_gate ON tenantry.gate USING (true)',
    'policy tenantry.gate.own_gate: policy-as-made',
  ),
];

export const CODE: readonly Way[] = [
  way(
    "a view with its owner's rights",
    `CREATE VIEW app.all_messages AS SELECT * FROM app.messages; GRANT SELECT ON app.all_messages TO ${ROLES.runtime}`,
    'view app.all_messages: view-security-invoker',
  ),
  way(
    "a view with its owner's rights, of which one column is granted",
    `CREATE VIEW app.all_messages WITH (security_invoker = off) AS SELECT * FROM app.messages;
     GRANT SELECT (id) ON app.all_messages TO ${ROLES.purge}`,
    'view app.all_messages: view-security-invoker',
  ),
  way(
    'a materialized view that the product may read',
    `CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.messages; GRANT SELECT ON app.kept TO ${ROLES.runtime}`,
    'materialized view app.kept: materialized-view-out-of-reach',
  ),
  way(
    "a function with its owner's rights",
    `CREATE FUNCTION app.count_all(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER
       AS 'SELECT count(*) FROM app.messages'`,
    'function app.count_all(text): function-security-invoker',
  ),
  way(
    "a procedure with its owner's rights",
    `CREATE PROCEDURE app.wipe() LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM app.messages'`,
    'function app.wipe(): function-security-invoker',
  ),
  way(
    'a function that sees rows before the policies',
    `CREATE FUNCTION app.peek(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE LEAKPROOF COST 0.0001
       AS 'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'`,
    'function app.peek(text): function-not-leakproof',
  ),
  way(
    'set_config under another name',
    `CREATE FUNCTION app.set(text, text, boolean) RETURNS text LANGUAGE internal AS 'set_config_by_name'`,
    'function app.set(text,text,boolean): function-of-a-trusted-language',
  ),
  way(
    'a setting of the session that a function changes',
    'CREATE EXTENSION pg_trgm SCHEMA app',
    'function app.set_limit(real): function-leaves-the-session',
  ),
  way(
    'a function that is of another tenant while it runs',
    `CREATE FUNCTION app.as_other() RETURNS bigint LANGUAGE sql
       SET app.tenant_id = '00000000-0000-4000-8000-000000000001' AS 'SELECT count(*) FROM app.messages'`,
    'function app.as_other(): function-keeps-the-tenant',
  ),
  way(
    'a function that becomes another tenant',
    `CREATE FUNCTION app.become(t text) RETURNS void LANGUAGE plpgsql
       AS $$ BEGIN EXECUTE format('SET LOCAL app.tenant_id = %L', t); END $$`,
    'function app.become(text): function-keeps-the-tenant',
  ),
  way(
    "a trigger with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
       AS 'BEGIN RETURN new; END';
     CREATE TRIGGER log BEFORE INSERT ON app.messages FOR EACH ROW EXECUTE FUNCTION hidden.log()`,
    'trigger app.messages.log: trigger-security-invoker',
  ),
  way(
    "a default with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.peek() RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     ALTER TABLE app.messages ALTER COLUMN body SET DEFAULT hidden.peek()`,
    'function hidden.peek(): function-security-invoker',
  ),
  way(
    'a function that becomes whatever it is given',
    `CREATE FUNCTION app.become(k text, t text) RETURNS void LANGUAGE plpgsql
       AS $$ BEGIN EXECUTE format('SET LOCAL %s = %L', k, t); END $$`,
    'function app.become(text,text): function-keeps-the-tenant',
  ),
  way(
    'a trigger that becomes another tenant',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.become() RETURNS trigger LANGUAGE plpgsql
       AS $$ BEGIN SET LOCAL app.tenant_id = '00000000-0000-4000-8000-000000000001'; RETURN new; END $$;
     CREATE TRIGGER become BEFORE INSERT ON app.messages FOR EACH ROW EXECUTE FUNCTION hidden.become()`,
    'trigger app.messages.become: trigger-keeps-the-tenant',
  ),
  way(
    'a trigger that is of another tenant while it runs',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.as_other() RETURNS trigger LANGUAGE plpgsql
       SET app.tenant_id = '00000000-0000-4000-8000-000000000001' AS 'BEGIN RETURN new; END';
     CREATE TRIGGER as_other BEFORE INSERT ON app.messages FOR EACH ROW EXECUTE FUNCTION hidden.as_other()`,
    'trigger app.messages.as_other: trigger-keeps-the-tenant',
  ),
  way(
    "a trigger with its function's owner's rights on a part of a table in another schema",
    `CREATE SCHEMA hidden; CREATE TABLE hidden.old () INHERITS (app.messages);
     CREATE FUNCTION hidden.log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END';
     CREATE TRIGGER log BEFORE UPDATE ON hidden.old FOR EACH ROW EXECUTE FUNCTION hidden.log()`,
    'trigger hidden.old.log: trigger-security-invoker',
  ),
  way(
    "an operator with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.peek(int, int) RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     CREATE OPERATOR app.## (LEFTARG = int, RIGHTARG = int, FUNCTION = hidden.peek)`,
    'function hidden.peek(integer,integer): function-security-invoker',
  ),
  way(
    "a cast with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE TYPE app.asked AS (i int);
     CREATE FUNCTION hidden.peek(app.asked) RETURNS json LANGUAGE sql SECURITY DEFINER
       AS 'SELECT to_json(subject) FROM app.conversations';
     CREATE CAST (app.asked AS json) WITH FUNCTION hidden.peek(app.asked)`,
    'function hidden.peek(app.asked): function-security-invoker',
  ),
  way(
    "an aggregate with its step's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.step(text, int) RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     REVOKE ALL ON FUNCTION hidden.step(text, int) FROM PUBLIC;
     CREATE AGGREGATE app.peek(int) (SFUNC = hidden.step, STYPE = text)`,
    'function hidden.step(text,integer): function-security-invoker',
  ),
  way(
    "a function of PostgreSQL's schema with its owner's rights",
    `CREATE FUNCTION pg_catalog.peek() RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations'`,
    'function peek(): function-security-invoker',
  ),
  way(
    "a view in PostgreSQL's information schema with its owner's rights",
    `CREATE VIEW information_schema.peek AS SELECT subject FROM app.conversations;
     GRANT SELECT ON information_schema.peek TO PUBLIC`,
    'view information_schema.peek: view-security-invoker',
  ),
  way(
    'a materialized view in another schema behind a view',
    `CREATE SCHEMA hidden; CREATE MATERIALIZED VIEW hidden.everything AS SELECT subject FROM app.conversations;
     CREATE VIEW app.peek WITH (security_invoker = true) AS SELECT * FROM hidden.everything;
     GRANT SELECT ON hidden.everything, app.peek TO ${ROLES.runtime}`,
    'materialized view hidden.everything: materialized-view-out-of-reach',
  ),
  way(
    'a table without policies in another schema behind the body of a function',
    `CREATE SCHEMA hidden; CREATE TABLE hidden.copy (subject text); GRANT SELECT ON hidden.copy TO ${ROLES.runtime};
     CREATE FUNCTION app.peek() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC SELECT subject FROM hidden.copy; END`,
    'table hidden.copy: undeclared-table-locked',
  ),
  way(
    'a rule',
    'CREATE RULE twice AS ON DELETE TO app.messages DO ALSO DELETE FROM app.customers',
    'rule app.messages.twice: no-rules',
  ),
  way(
    'a function by which tenants are entered altered',
    `CREATE OR REPLACE FUNCTION tenantry.verified_tenant() RETURNS uuid LANGUAGE sql
       AS $$ SELECT pg_catalog.current_setting('app.tenant_id')::uuid $$`,
    'function tenantry.verified_tenant: context-function-as-made',
  ),
  way(
    'a function by which tenants are entered kept in plans',
    'ALTER FUNCTION tenantry.verified_tenant() IMMUTABLE',
    'function tenantry.verified_tenant: context-function-as-made',
  ),
  way(
    'what policies read kept in plans',
    'ALTER FUNCTION pg_catalog.current_setting(text) IMMUTABLE',
    'function pg_catalog.current_setting(text): built-in-as-made',
  ),
  way(
    "a built-in with its owner's rights",
    'ALTER FUNCTION pg_catalog.query_to_xml(text, boolean, boolean, text) SECURITY DEFINER',
    'function pg_catalog.query_to_xml(text,boolean,boolean,text): built-in-as-made',
  ),
  way(
    'a built-in that is said to leak nothing',
    'ALTER FUNCTION pg_catalog.textlike(text, text) LEAKPROOF',
    'function pg_catalog.textlike(text,text): built-in-as-made',
  ),
  way(
    'a function by which tenants are entered missing',
    'DROP FUNCTION tenantry.enter(uuid, integer, integer)',
    'function tenantry.enter: context-function-as-made',
  ),
  way(
    'a function by which tenants are entered anybody may call',
    'GRANT EXECUTE ON FUNCTION tenantry.enter(uuid, integer, integer) TO PUBLIC',
    'function tenantry.enter: context-function-as-made',
  ),
  way(
    'the one for a statement alone altered',
    `CREATE OR REPLACE FUNCTION tenantry.enter_alone(tenant text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
       AS $$ DECLARE done text; BEGIN done := set_config('app.tenant_id', tenant, true); END $$`,
    'function tenantry.enter_alone: context-function-as-made',
  ),
  way(
    'another function in our schema',
    `CREATE FUNCTION tenantry.extra() RETURNS void LANGUAGE sql SECURITY DEFINER AS ''`,
    'function tenantry.extra(): function-security-invoker',
  ),
];

export const GRANTS: readonly Way[] = [
  ...['TRUNCATE', 'REFERENCES', 'TRIGGER'].map((right) =>
    way(
      `${right} for the product`,
      `GRANT ${right} ON app.messages TO ${ROLES.runtime}`,
      'grant app.messages: rights-as-made',
    ),
  ),
  way(
    'a right to pass on',
    `GRANT SELECT ON app.messages TO ${ROLES.runtime} WITH GRANT OPTION`,
    'grant app.messages: rights-as-made',
  ),
  way('a right for PUBLIC', 'GRANT SELECT ON app.messages TO PUBLIC', 'grant app.messages: rights-as-made'),
  way(
    'a right that the purge need not',
    `GRANT UPDATE ON app.messages TO ${ROLES.purge}`,
    'grant app.messages: rights-as-made',
  ),
  way(
    'a right missing',
    `REVOKE DELETE ON app.messages FROM ${ROLES.purge}`,
    'grant app.messages: rights-as-made',
  ),
  way(
    'the keys of tokens readable',
    `GRANT SELECT ON tenantry.context_key TO ${ROLES.runtime}`,
    'grant tenantry.context_key: rights-as-made',
  ),
  way(
    'the gate writable',
    `GRANT UPDATE (mode) ON tenantry.gate TO ${ROLES.runtime}`,
    'grant tenantry.gate.mode: no-rights-on-columns',
  ),
  way(
    'a right on a column',
    `GRANT REFERENCES (id) ON app.messages TO ${ROLES.runtime}`,
    'grant app.messages.id: no-rights-on-columns',
  ),
  way(
    'a sequence that the product draws from',
    `CREATE SEQUENCE app.tickets; GRANT USAGE ON SEQUENCE app.tickets TO ${ROLES.runtime}`,
    'sequence app.tickets: sequence-out-of-reach',
  ),
  way(
    'a view for PUBLIC',
    'CREATE VIEW app.own WITH (security_invoker) AS SELECT 1 AS one; GRANT SELECT ON app.own TO PUBLIC',
    'grant app.own: rights-as-made',
  ),
  way('the schema for PUBLIC', 'GRANT USAGE ON SCHEMA app TO PUBLIC', 'grant app: rights-as-made'),
  way('CREATE in the schema', `GRANT CREATE ON SCHEMA app TO ${ROLES.runtime}`, 'grant app: rights-as-made'),
  way(
    'CREATE in our schema for PUBLIC',
    'GRANT CREATE ON SCHEMA tenantry TO PUBLIC',
    'grant tenantry: rights-as-made',
  ),
  way(
    'another schema with a table',
    `CREATE SCHEMA other; CREATE TABLE other.t (); GRANT USAGE ON SCHEMA other TO ${ROLES.runtime}`,
    'schema other: schemas-of-the-manifest-only',
  ),
  way(
    'CREATE in public',
    'GRANT CREATE ON SCHEMA public TO PUBLIC',
    'schema public: schemas-of-the-manifest-only',
  ),
  way(
    'rights by default',
    `ALTER DEFAULT PRIVILEGES FOR ROLE ${ROLES.owner} IN SCHEMA app GRANT SELECT ON TABLES TO ${ROLES.runtime}`,
    `grant TABLES of ${ROLES.owner} IN SCHEMA app: no-default-rights`,
  ),
  way(
    'rights by default, in every schema',
    `ALTER DEFAULT PRIVILEGES FOR ROLE ${ROLES.owner} GRANT USAGE ON SEQUENCES TO PUBLIC`,
    `grant SEQUENCES of ${ROLES.owner}: no-default-rights`,
  ),
];

export const SYSTEM: readonly Way[] = [
  way(
    'temporary tables for PUBLIC',
    'GRANT TEMP ON DATABASE $database TO PUBLIC',
    'grant $database: database-rights-as-made',
  ),
  way(
    'CREATE on the database',
    `GRANT CREATE ON DATABASE $database TO ${ROLES.runtime}`,
    'grant $database: database-rights-as-made',
  ),
  way(
    'the database for PUBLIC',
    'GRANT CONNECT ON DATABASE $database TO PUBLIC',
    'grant $database: database-rights-as-made',
  ),
  way(
    'set_config for PUBLIC',
    'GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO PUBLIC',
    'function pg_catalog.set_config(text,text,boolean): server-function-out-of-reach',
  ),
  way(
    'set_config for the product',
    `GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO ${ROLES.runtime}`,
    'function pg_catalog.set_config(text,text,boolean): server-function-out-of-reach',
  ),
  way(
    'the statements of others for the product',
    `GRANT EXECUTE ON FUNCTION pg_stat_get_activity(integer) TO ${ROLES.runtime}`,
    'function pg_catalog.pg_stat_get_activity(integer): server-function-out-of-reach',
  ),
  way(
    'locks that stay with a session for PUBLIC',
    'GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC',
    'function pg_catalog.pg_advisory_lock(bigint): server-function-out-of-reach',
  ),
  way(
    "the server's files for the product",
    `GRANT EXECUTE ON FUNCTION pg_read_file(text) TO ${ROLES.runtime}`,
    'function pg_catalog.pg_read_file(text): server-function-out-of-reach',
  ),
  way(
    'samples of all values for the product',
    `GRANT SELECT ON pg_statistic TO ${ROLES.runtime}`,
    'grant pg_catalog.pg_statistic: server-table-out-of-reach',
  ),
  way(
    'passwords, by a right on a column, for the product',
    `GRANT SELECT (rolpassword) ON pg_authid TO ${ROLES.runtime}`,
    'grant pg_catalog.pg_authid.rolpassword: server-table-out-of-reach',
  ),
  way(
    "the schema of all tables' long values for the product",
    `GRANT USAGE ON SCHEMA pg_toast TO ${ROLES.runtime}`,
    'schema pg_toast: server-schema-out-of-reach',
  ),
  way(
    'a setting of the superuser for the product',
    `GRANT SET ON PARAMETER session_replication_role TO ${ROLES.runtime}`,
    `setting session_replication_role (${ROLES.runtime}): server-setting-out-of-reach`,
  ),
  way(
    "versions of other tenants' rows for PUBLIC",
    'GRANT EXECUTE ON FUNCTION currtid2(text, tid) TO PUBLIC',
    'function pg_catalog.currtid2(text,tid): server-function-out-of-reach',
  ),
  way(
    'what the session before has written for PUBLIC',
    'GRANT EXECUTE ON FUNCTION pg_stat_get_xact_tuples_inserted(oid) TO PUBLIC',
    'function pg_catalog.pg_stat_get_xact_tuples_inserted(oid): server-function-out-of-reach',
  ),
  way(
    'a foreign data wrapper',
    `CREATE FOREIGN DATA WRAPPER far; GRANT USAGE ON FOREIGN DATA WRAPPER far TO ${ROLES.runtime}`,
    'foreign server far: no-way-to-other-servers',
  ),
  way(
    'a foreign server',
    `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; GRANT USAGE ON FOREIGN SERVER far TO ${ROLES.runtime}`,
    'foreign server far: no-way-to-other-servers',
  ),
  way(
    'a user mapping',
    'CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER far',
    'foreign server far: no-way-to-other-servers',
  ),
  way(
    'dblink in the schema',
    'CREATE EXTENSION dblink SCHEMA app',
    'extension dblink: extension-out-of-reach',
  ),
  way(
    'a large object for everybody',
    'SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC',
    'large object 4711: large-object-out-of-reach',
  ),
];

export const OWNERS: readonly Way[] = [
  way(
    'a table owned by the product',
    `ALTER TABLE app.messages OWNER TO ${ROLES.runtime}`,
    'table app.messages: not-owned-by-the-product',
  ),
  way(
    'the schema owned by the product',
    `ALTER SCHEMA app OWNER TO ${ROLES.runtime}`,
    'schema app: not-owned-by-the-product',
  ),
  way(
    'the database owned by the purge',
    `ALTER DATABASE $database OWNER TO ${ROLES.purge}`,
    'database $database: not-owned-by-the-product',
  ),
  way(
    'a function owned by the product',
    `CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION app.mine() OWNER TO ${ROLES.runtime}`,
    'function app.mine(): not-owned-by-the-product',
  ),
  way(
    'a large object of the product',
    `SELECT lo_create(4712); ALTER LARGE OBJECT 4712 OWNER TO ${ROLES.runtime}`,
    'large object 4712: not-owned-by-the-product',
  ),
];

export const ALL_ROLES: readonly Way[] = [
  ...['SUPERUSER', 'BYPASSRLS', 'CREATEROLE', 'CREATEDB', 'REPLICATION'].map((attribute) =>
    way(
      `the product's role ${attribute}`,
      `ALTER ROLE ${ROLES.runtime} ${attribute}`,
      `role ${ROLES.runtime}: role-without-attributes`,
    ),
  ),
  way(
    "the owner's role BYPASSRLS",
    `ALTER ROLE ${ROLES.owner} BYPASSRLS`,
    `role ${ROLES.owner}: role-without-attributes`,
  ),
  ...[
    ROLES.owner,
    'pg_read_all_data',
    'pg_write_all_data',
    'pg_read_server_files',
    'pg_execute_server_program',
  ].map((role) =>
    way(
      `the product's role a member of ${role}`,
      `GRANT ${role} TO ${ROLES.runtime}`,
      `role ${ROLES.runtime}: role-member-of-none`,
    ),
  ),
  way(
    "the purge's role a member of the catalogue's",
    `GRANT ${ROLES.catalogue} TO ${ROLES.purge}`,
    `role ${ROLES.purge}: role-member-of-none`,
  ),
  way(
    'a tenant that the role begins with',
    `ALTER ROLE ${ROLES.runtime} SET app.tenant_id = '00000000-0000-4000-8000-000000000001'`,
    `setting app.tenant_id (ROLE ${ROLES.runtime}): session-begins-without-a-tenant`,
  ),
  way(
    'a tenant that the role begins with in the database',
    `ALTER ROLE ${ROLES.runtime} IN DATABASE $database SET app.tenant_id = 'x'`,
    `setting app.tenant_id (ROLE ${ROLES.runtime} IN DATABASE $database): session-begins-without-a-tenant`,
  ),
  way(
    'a token that the database begins with',
    `ALTER DATABASE $database SET "app.tenant_token" = 'x'`,
    'setting app.tenant_token (DATABASE $database): session-begins-without-a-tenant',
  ),
  way(
    'references that are off in sessions',
    `ALTER ROLE ${ROLES.runtime} SET session_replication_role = 'replica'`,
    `setting session_replication_role (ROLE ${ROLES.runtime}): session-begins-without-a-tenant`,
  ),
  way(
    'the lookup role CREATEDB',
    `ALTER ROLE ${ROLES.lookup} CREATEDB`,
    `role ${ROLES.lookup}: role-without-attributes`,
  ),
];

/** What no transaction can make. */
export const SERVER: readonly Way[] = [
  way(
    'references that are off in the whole server',
    `ALTER SYSTEM SET session_replication_role = 'replica'`,
    'setting session_replication_role (server): session-begins-without-a-tenant',
  ),
];
