/** PostgreSQL's own functions, tables, schemas and settings: rights on them that it does not grant by itself. */
import { WITHDRAWN } from '../../../catalogue/bootstrap.js';
import { aclOf, added, type Check, type Examination, type Finding, grantee, REACHING } from './finding.js';
import { settingName } from './settings.js';

export const checkServer: Check = async (examination) => [
  ...(await functions(examination)),
  ...(await tables(examination)),
  ...(await schemas(examination)),
  ...(await parameters(examination)),
];

/** Rights that PostgreSQL does not grant, and those that it grants and the bootstrap withdraws. */
async function functions({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; grantees: string[] }>(
    `SELECT p.oid::regprocedure::text AS object,
            array_agg(DISTINCT ${grantee('a.grantee')} ORDER BY ${grantee('a.grantee')}) AS grantees
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
       LEFT JOIN pg_init_privs i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid AND i.objsubid = 0,
            ${aclOf('p.proacl', 'f', 'p.proowner')} a
      WHERE n.nspname = 'pg_catalog' AND a.grantee IN ${REACHING} AND a.grantee <> p.proowner
        AND (p.oid IN (SELECT to_regprocedure(f) FROM unnest($1::text[]) AS f)
          OR i.initprivs IS NOT NULL AND NOT EXISTS (
            SELECT FROM aclexplode(i.initprivs) b WHERE b.grantee = a.grantee))
      GROUP BY p.oid ORDER BY 1`,
    [WITHDRAWN],
  );
  return rows.map(({ object, grantees }) => ({
    kind: 'function',
    object: `pg_catalog.${object}`,
    invariant: 'server-function-out-of-reach',
    detail: `${grantees.join(', ')} may call ${object}, by which a statement leaves its tenant, its connection or the database.`,
    mend: `REVOKE EXECUTE ON FUNCTION pg_catalog.${object} FROM ${grantees.join(', ')} CASCADE;`,
  }));
}

/** Of a namespace `n`: PostgreSQL's own, also pg_toast, which holds the long values of all tables. */
const ITS_OWN = `(n.nspname ~ '^pg_' OR n.nspname = 'information_schema')`;

/** Of a privilege `a` on a relation `c`: PUBLIC may read the information schema, but not the `_pg_...` that it rests on. */
const INFORMATION = `(n.nspname = 'information_schema' AND c.relname !~ '^_pg_' AND a.grantee = 0
  AND a.privilege_type = 'SELECT')`;

/** Some hold samples of every table's values (pg_statistic), some passwords, some the values themselves (pg_toast). */
async function tables({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; column: string | null; grantee: string; privileges: string[] }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS object, quote_ident(t.attname) AS column,
            ${grantee('a.grantee')} AS grantee,
            array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       CROSS JOIN LATERAL (SELECT 0 AS attnum, NULL::name AS attname, c.relacl AS acl WHERE c.relacl IS NOT NULL
         UNION ALL SELECT attnum, attname, attacl FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) AS t
       LEFT JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = t.attnum,
            aclexplode(t.acl) a
      WHERE ${ITS_OWN} AND a.grantee IN ${REACHING} AND a.grantee <> c.relowner AND NOT ${INFORMATION}
        -- A view that somebody added there is looked at like any other: views.ts.
        AND NOT (c.relkind IN ('v', 'm') AND ${added('c.oid', 'c.relowner')})
        AND NOT EXISTS (SELECT FROM aclexplode(i.initprivs) b
                         WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type)
      GROUP BY n.nspname, c.relname, t.attnum, t.attname, a.grantee ORDER BY t.attnum > 0, 1, 2, 3`,
  );
  return rows.map(({ object, column, grantee: role, privileges }) => ({
    kind: 'grant',
    object: column === null ? object : `${object}.${column}`,
    invariant: 'server-table-out-of-reach',
    detail: `${role} may ${privileges.join(', ')} ${column === null ? object : `the column ${column} of ${object}`}, which PostgreSQL keeps to itself.`,
    mend: `REVOKE ${column === null ? privileges.join(', ') : `ALL (${column})`} ON TABLE ${object} FROM ${role} CASCADE;`,
  }));
}

/** Names are looked up in pg_catalog before all else. */
async function schemas({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; grantee: string; privileges: string[] }>(
    `SELECT quote_ident(n.nspname) AS object, ${grantee('a.grantee')} AS grantee,
            array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges
       FROM pg_namespace n, aclexplode(n.nspacl) a
      WHERE ${ITS_OWN} AND a.grantee IN ${REACHING} AND a.grantee <> n.nspowner
        AND NOT (n.nspname IN ('pg_catalog', 'information_schema') AND a.privilege_type = 'USAGE')
      GROUP BY n.nspname, a.grantee ORDER BY 1, 2`,
  );
  return rows.map(({ object, grantee: role, privileges }) => ({
    kind: 'schema',
    object,
    invariant: 'server-schema-out-of-reach',
    detail: `${role} has ${privileges.join(', ')} on ${object}, which PostgreSQL keeps to itself.`,
    mend: `REVOKE ${privileges.join(', ')} ON SCHEMA ${object} FROM ${role} CASCADE;`,
  }));
}

/** Rights to settings that are a superuser's (since PostgreSQL 15), session_replication_role among them. */
async function parameters({ ask }: Examination): Promise<Finding[]> {
  const [there] = await ask<{ there: boolean }>(
    `SELECT to_regclass('pg_catalog.pg_parameter_acl') IS NOT NULL AS there`,
  );
  if (there?.there !== true) return [];
  const rows = await ask<{ name: string; grantee: string; privileges: string[] }>(
    `SELECT p.parname AS name, ${grantee('a.grantee')} AS grantee,
            array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges
       FROM pg_parameter_acl p, aclexplode(p.paracl) a
      WHERE a.grantee IN ${REACHING} GROUP BY p.parname, a.grantee ORDER BY 1, 2`,
  );
  return rows.map(({ name, grantee: role, privileges }) => ({
    kind: 'setting',
    object: `${name} (${role})`,
    invariant: 'server-setting-out-of-reach',
    detail: `${role} has ${privileges.join(', ')} on ${name}, which is a superuser's: some of these switch off what isolates.`,
    mend: `REVOKE ${privileges.join(', ')} ON PARAMETER ${settingName(name)} FROM ${role} CASCADE;`,
  }));
}
