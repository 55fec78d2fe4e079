/** Ways by which code in a cell's PostgreSQL reaches past the tenant: views, functions, triggers, rules. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { type Way, way } from './doctor-ways.js';

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
    "an operator whose function becomes another tenant with its caller's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.become(text, text) RETURNS text LANGUAGE plpgsql
       AS $$ BEGIN EXECUTE format('SET LOCAL app.tenant_id = %L', $2); RETURN $2; END $$;
     CREATE OPERATOR app.## (LEFTARG = text, RIGHTARG = text, FUNCTION = hidden.become)`,
    'function hidden.become(text,text): function-keeps-the-tenant',
  ),
  way(
    'a cast whose function is of another tenant while it runs',
    `CREATE SCHEMA hidden; CREATE TYPE app.asked AS (i int);
     CREATE FUNCTION hidden.peek(app.asked) RETURNS json LANGUAGE sql
       SET app.tenant_id = '00000000-0000-4000-8000-000000000001' AS 'SELECT to_json(subject) FROM app.conversations';
     CREATE CAST (app.asked AS json) WITH FUNCTION hidden.peek(app.asked)`,
    'function hidden.peek(app.asked): function-keeps-the-tenant',
  ),
  way(
    "an aggregate whose step becomes another tenant with its caller's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.step(text, text) RETURNS text LANGUAGE plpgsql
       AS $$ BEGIN EXECUTE format('SET LOCAL app.tenant_id = %L', $2); RETURN $2; END $$;
     REVOKE ALL ON FUNCTION hidden.step(text, text) FROM PUBLIC;
     CREATE AGGREGATE app.become(text) (SFUNC = hidden.step, STYPE = text)`,
    'function hidden.step(text,text): function-keeps-the-tenant',
  ),
  way(
    'an aggregate whose step is set_config',
    `CREATE AGGREGATE app.become(text, boolean)
       (SFUNC = pg_catalog.set_config, STYPE = text, INITCOND = 'app.tenant_id')`,
    'function app.become(text,boolean): server-function-out-of-reach',
  ),
  way(
    "a function with its owner's rights that the body of another names",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.peek() RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     CREATE FUNCTION app.peek() RETURNS text RETURN hidden.peek()`,
    'function hidden.peek(): function-security-invoker',
  ),
  way(
    "an index of an expression with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.peek(text) RETURNS text LANGUAGE sql IMMUTABLE SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     CREATE INDEX ON app.messages (tenant_id, hidden.peek(body))`,
    'function hidden.peek(text): function-security-invoker',
  ),
  way(
    "a trigger's condition with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.peek(text) RETURNS boolean LANGUAGE sql SECURITY DEFINER
       AS 'SELECT count(*) > 0 FROM app.conversations';
     CREATE FUNCTION hidden.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
     CREATE TRIGGER peek BEFORE INSERT ON app.messages FOR EACH ROW WHEN (hidden.peek(new.body))
       EXECUTE FUNCTION hidden.nothing()`,
    'function hidden.peek(text): function-security-invoker',
  ),
  way(
    "a range's difference with its owner's rights",
    `CREATE SCHEMA hidden;
     CREATE FUNCTION hidden.apart(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE SECURITY DEFINER
       AS 'SELECT count(*)::float8 FROM app.conversations';
     REVOKE ALL ON FUNCTION hidden.apart(float8, float8) FROM PUBLIC;
     CREATE TYPE app.span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = hidden.apart)`,
    'function hidden.apart(double precision,double precision): function-security-invoker',
  ),
  way(
    "a class of operators whose support has its owner's rights",
    `CREATE SCHEMA hidden; CREATE TYPE app.asked AS (i int);
     CREATE FUNCTION hidden.compared(app.asked, app.asked) RETURNS int LANGUAGE sql SECURITY DEFINER
       AS 'SELECT count(*)::int FROM app.conversations';
     REVOKE ALL ON FUNCTION hidden.compared(app.asked, app.asked) FROM PUBLIC;
     CREATE OPERATOR CLASS app.asked_ops FOR TYPE app.asked USING btree
       AS FUNCTION 1 hidden.compared(app.asked, app.asked)`,
    'function hidden.compared(app.asked,app.asked): function-security-invoker',
  ),
  way(
    "a class of operators whose operator has its owner's rights, called by an index without EXECUTE",
    `CREATE SCHEMA hidden; CREATE TYPE app.asked AS (i int);
     CREATE FUNCTION hidden.before(app.asked, app.asked) RETURNS boolean LANGUAGE sql SECURITY DEFINER
       AS 'SELECT count(*) > 0 FROM app.conversations';
     REVOKE ALL ON FUNCTION hidden.before(app.asked, app.asked) FROM PUBLIC;
     CREATE OPERATOR app.<< (LEFTARG = app.asked, RIGHTARG = app.asked, FUNCTION = hidden.before);
     CREATE OPERATOR CLASS app.asked_ops FOR TYPE app.asked USING btree AS OPERATOR 1 app.<<`,
    'function hidden.before(app.asked,app.asked): function-security-invoker',
  ),
  way(
    "a conversion with its function's owner's rights",
    `CREATE SCHEMA hidden;
     CREATE FUNCTION hidden.turned(int, int, cstring, internal, int, boolean) RETURNS int LANGUAGE c STRICT
       SECURITY DEFINER AS '$libdir/utf8_and_iso8859_1', 'iso8859_1_to_utf8';
     REVOKE ALL ON FUNCTION hidden.turned(int, int, cstring, internal, int, boolean) FROM PUBLIC;
     CREATE CONVERSION app.latin FOR 'LATIN1' TO 'UTF8' FROM hidden.turned`,
    'function hidden.turned(integer,integer,cstring,internal,integer,boolean): function-security-invoker',
  ),
  way(
    'a SET of the tenant that is kept in a variable',
    `CREATE FUNCTION app.become(t text) RETURNS void LANGUAGE plpgsql
       AS $$ DECLARE q text := 'SET LOCAL app.tenant_id = '; BEGIN q := q || quote_literal(t); EXECUTE q; END $$`,
    'function app.become(text): function-keeps-the-tenant',
  ),
  way(
    'a SET of whatever it is given that is kept in a variable',
    `CREATE FUNCTION app.become(k text, t text) RETURNS void LANGUAGE plpgsql
       AS $$ DECLARE q text; BEGIN q = 'SELECT 1; SET ' || k || ' = ' || quote_literal(t); EXECUTE q; END $$`,
    'function app.become(text,text): function-keeps-the-tenant',
  ),
  way(
    'a function that forgets the tenant, so that another is entered',
    `CREATE FUNCTION app.forget() RETURNS void LANGUAGE plpgsql AS 'BEGIN RESET /* what is left */ ALL; END'`,
    'function app.forget(): function-keeps-the-tenant',
  ),
  way(
    "an event trigger with its function's owner's rights",
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.log() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
       AS 'BEGIN RAISE NOTICE ''%'', (SELECT count(*) FROM app.conversations); END';
     CREATE EVENT TRIGGER log ON ddl_command_start EXECUTE FUNCTION hidden.log()`,
    'event trigger log: event-trigger-security-invoker',
  ),
  way(
    'an event trigger that becomes a tenant',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.become() RETURNS event_trigger LANGUAGE plpgsql
       AS $$ BEGIN SET app.tenant_id = '00000000-0000-4000-8000-000000000001'; END $$;
     CREATE EVENT TRIGGER become ON ddl_command_end WHEN TAG IN ('COMMENT') EXECUTE FUNCTION hidden.become()`,
    'event trigger become: event-trigger-keeps-the-tenant',
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
    'a view of the information schema that reads a table of tenants',
    `CREATE OR REPLACE VIEW information_schema.collations AS
       SELECT NULL::information_schema.sql_identifier AS collation_catalog,
              NULL::information_schema.sql_identifier AS collation_schema,
              subject::information_schema.sql_identifier AS collation_name,
              NULL::information_schema.character_data AS pad_attribute FROM app.conversations`,
    'view information_schema.collations: view-security-invoker',
  ),
  way(
    'a function that executes what it is given',
    `CREATE FUNCTION app.run(q text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE q; END'`,
    'function app.run(text): function-keeps-the-tenant',
  ),
  way(
    "a function of PostgreSQL's information schema with its owner's rights",
    'ALTER FUNCTION information_schema._pg_index_position(oid, smallint) SECURITY DEFINER',
    'function information_schema._pg_index_position(oid,smallint): built-in-as-made',
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
