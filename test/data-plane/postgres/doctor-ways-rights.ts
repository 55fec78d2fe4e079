/** Ways by which the rights, owners, roles and settings of a cell's PostgreSQL reach past the tenant. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { type Way, way } from './doctor-ways.js';

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
    'which functions the session before has called for PUBLIC',
    'GRANT EXECUTE ON FUNCTION pg_stat_get_xact_function_calls(oid) TO PUBLIC',
    'function pg_catalog.pg_stat_get_xact_function_calls(oid): server-function-out-of-reach',
  ),
  way(
    'tables of tenants published, by name and by schema',
    `CREATE PUBLICATION rows FOR TABLE app.messages, tenantry.gate;
     CREATE PUBLICATION schemas FOR TABLES IN SCHEMA app, public`,
    'publication rows: no-rows-published (warning)',
    'publication schemas: no-rows-published (warning)',
  ),
  way(
    'all tables published',
    'CREATE PUBLICATION everything FOR ALL TABLES',
    'publication everything: no-rows-published (warning)',
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
    'dblink out of reach, behind the body of a function',
    `CREATE SCHEMA hidden; CREATE EXTENSION dblink SCHEMA hidden;
     CREATE FUNCTION app.peek(t text) RETURNS SETOF text
       RETURN (SELECT r.t FROM hidden.dblink('dbname=x password=y', t) AS r (t text))`,
    'extension dblink: extension-out-of-reach',
  ),
  way(
    'what is written ahead, row by row, for the product',
    `CREATE EXTENSION pg_walinspect SCHEMA app;
     GRANT EXECUTE ON FUNCTION app.pg_get_wal_record_info(pg_lsn) TO ${ROLES.runtime}`,
    'extension pg_walinspect: extension-out-of-reach',
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
    "a function of PostgreSQL's schema owned by the product",
    `CREATE FUNCTION pg_catalog.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
     ALTER FUNCTION pg_catalog.mine() OWNER TO ${ROLES.runtime}`,
    'function mine(): not-owned-by-the-product',
  ),
  way(
    'a view in the information schema owned by the purge',
    `CREATE VIEW information_schema.mine WITH (security_invoker) AS SELECT 1 AS one;
     ALTER VIEW information_schema.mine OWNER TO ${ROLES.purge}`,
    'view information_schema.mine: not-owned-by-the-product',
  ),
  way(
    'a type, an operator, a class of them and a publication owned by the product',
    `CREATE DOMAIN app.mail AS text; ALTER DOMAIN app.mail OWNER TO ${ROLES.runtime};
     CREATE OPERATOR app.## (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
     ALTER OPERATOR app.## (int, int) OWNER TO ${ROLES.runtime};
     CREATE OPERATOR CLASS app.numbers FOR TYPE int4 USING btree AS FUNCTION 1 btint4cmp(int4, int4);
     ALTER OPERATOR CLASS app.numbers USING btree OWNER TO ${ROLES.runtime};
     CREATE PUBLICATION mine; ALTER PUBLICATION mine OWNER TO ${ROLES.runtime}`,
    'other operator app.##(integer,integer): not-owned-by-the-product',
    'other operator class app.numbers USING btree: not-owned-by-the-product',
    'publication mine: not-owned-by-the-product',
    'type app.mail: not-owned-by-the-product',
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
    'transactions that keep their first snapshot, where nobody says otherwise',
    `ALTER ROLE ${ROLES.runtime} SET default_transaction_isolation = 'repeatable read'`,
    `setting default_transaction_isolation (ROLE ${ROLES.runtime}): sessions-read-what-is-committed (warning)`,
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
