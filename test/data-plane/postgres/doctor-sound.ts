/** What stands in many a sound cell, and is no way for a tenant to another: the doctor says nothing of it. */
import { type Way, way } from './doctor-ways.js';

export const SOUND: readonly Way[] = [
  way(
    'a policy that only restricts',
    `CREATE FUNCTION app.shown(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN $1 <> ''''; END';
     CREATE POLICY shown ON app.messages AS RESTRICTIVE USING (app.shown(body))`,
  ),
  way(
    'a function that executes what it has made itself',
    `CREATE FUNCTION app.made(IN k text, OUT q text) LANGUAGE plpgsql
       AS $$ BEGIN q := format('SELECT %L', k); EXECUTE q INTO q USING k; END $$`,
  ),
  way('a cast for a driver', 'CREATE CAST (varchar AS uuid) WITH INOUT AS IMPLICIT'),
  way('a range', 'CREATE TYPE app.span AS RANGE (SUBTYPE = numeric)'),
  way(
    'an UPDATE that is put together',
    `CREATE FUNCTION app.put(t text, c text, v text) RETURNS void LANGUAGE plpgsql AS $$
       DECLARE q text; assigned text := format('%I = %L', c, v);
       BEGIN
         EXECUTE format('UPDATE app.%I', t) || ' SET ' || assigned;
         EXECUTE concat('UPDATE app.', t, ' SET ', assigned);
         q := format('UPDATE app.%I', t) || '
           SET %I = ';
         assigned := 'SET ' || assigned;
         EXECUTE q || assigned;
       END $$`,
  ),
  way(
    'a function that speaks of the tenant, and sets something else',
    `CREATE FUNCTION app.ours() RETURNS void LANGUAGE plpgsql SET search_path = app AS $$ BEGIN
       -- don't SET app.tenant_id here /* ' */
       /* nor RESET ALL; /* EXECUTE 'SET ' || x */ */
       SET LOCAL lock_timeout = '3s';
       EXECUTE 'SET LOCAL lock_timeout = 100';
       IF current_setting('app.tenant_id') = '' THEN RAISE EXCEPTION 'SET app.tenant_id first'; END IF; END $$`,
  ),
  way(
    'a built-in that is withdrawn from all',
    'REVOKE EXECUTE ON FUNCTION md5(text), name(text) FROM PUBLIC',
  ),
  way(
    'an aggregate of the DBA alone',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.step(text, int) RETURNS text LANGUAGE sql SECURITY DEFINER
       AS 'SELECT subject FROM app.conversations';
     REVOKE ALL ON FUNCTION hidden.step(text, int) FROM PUBLIC;
     CREATE AGGREGATE hidden.peek(int) (SFUNC = hidden.step, STYPE = text);
     REVOKE ALL ON FUNCTION hidden.peek(int) FROM PUBLIC`,
  ),
  way(
    'an event trigger of a DBA',
    `CREATE SCHEMA hidden; CREATE FUNCTION hidden.log() RETURNS event_trigger LANGUAGE plpgsql
       AS 'BEGIN RAISE NOTICE ''%'', tg_tag; END';
     CREATE EVENT TRIGGER log ON ddl_command_end EXECUTE FUNCTION hidden.log()`,
  ),
  way(
    'a publication of what is no tenant’s',
    `CREATE SCHEMA other; CREATE TABLE other.t (id int PRIMARY KEY); CREATE PUBLICATION others FOR TABLE other.t`,
  ),
  way(
    'sessions that begin with what is the default',
    `ALTER DATABASE $database SET default_transaction_isolation = 'read committed'`,
  ),
];
