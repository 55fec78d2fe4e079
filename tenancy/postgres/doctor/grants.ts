/** Rights on what is in the product's schema and in `tenantry`: those that Tenantry grants, and no others. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import type { Manifest } from '../../../domain/manifest.js';
import {
  aclOf,
  type Check,
  type Examination,
  FOREIGN_SCHEMA,
  type Finding,
  grantee,
  REACHING,
} from './finding.js';

export interface Grant {
  readonly role: string;
  /** In alphabetical order. */
  readonly privileges: readonly string[];
}

/** What the product's roles and the purge's may do with a table of the manifest. */
export const grantsOf = (manifest: Manifest, table: string): Grant[] =>
  Object.hasOwn(manifest.postgres.tables, table)
    ? [
        { role: ROLES.runtime, privileges: ['DELETE', 'INSERT', 'SELECT', 'UPDATE'] },
        { role: ROLES.purge, privileges: ['DELETE', 'SELECT'] },
      ]
    : [];

/** On the cell's own tables only rights of REACHING are judged, and these are all that it needs. */
const ON_THE_GATE: readonly Grant[] = [
  { role: ROLES.runtime, privileges: ['SELECT'] },
  { role: ROLES.purge, privileges: ['SELECT'] },
];

export const checkGrants: Check = async (examination) => [
  ...(await onTables(examination)),
  ...(await onColumns(examination)),
  ...(await onSequencesAndViews(examination)),
  ...(await onSchemas(examination)),
  ...(await defaults(examination)),
];

interface AclRow {
  readonly schema: string;
  readonly name: string;
  readonly object: string;
  readonly grantee: string;
  readonly privileges: readonly string[];
  readonly grantable: boolean;
}

interface TableAclRow extends Omit<AclRow, 'grantee'> {
  /** Null where nobody has a right. */
  readonly grantee: string | null;
  readonly owner: string;
}

async function onTables({ ask, manifest }: Examination): Promise<Finding[]> {
  const { schema, tables } = manifest.postgres;
  const rows = await ask<TableAclRow>(
    `SELECT n.nspname AS schema, c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object,
            ${grantee('a.grantee')} AS grantee, pg_get_userbyid(c.relowner) AS owner,
            array_agg(DISTINCT a.privilege_type::text) AS privileges, bool_or(a.is_grantable) AS grantable
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN LATERAL aclexplode(c.relacl) a ON a.grantee <> c.relowner
        AND (n.nspname = $1 OR a.grantee IN ${REACHING})
      WHERE c.relkind IN ('r', 'p') AND (n.nspname = $1 AND c.relname = ANY ($2) OR n.nspname = 'tenantry')
      GROUP BY n.nspname, c.relname, c.relowner, a.grantee
      ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", 4`,
    [schema, Object.keys(tables)],
  );
  const objects = new Map<string, TableAclRow[]>();
  for (const row of rows) objects.set(row.object, [...(objects.get(row.object) ?? []), row]);
  return [...objects].flatMap(([object, granted]) => {
    const { schema: where, name, owner } = granted[0] as TableAclRow;
    const wanted = where === schema ? grantsOf(manifest, name) : name === 'gate' ? ON_THE_GATE : [];
    const roles = [
      ...new Set([...granted.flatMap((row) => row.grantee ?? []), ...wanted.map(({ role }) => role)]),
    ].filter((role) => role !== owner);
    return roles.flatMap((role): Finding[] => {
      const has = granted.find((row) => row.grantee === role);
      const should = wanted.find((grant) => grant.role === role)?.privileges ?? [];
      if (has?.grantable !== true && [...(has?.privileges ?? [])].sort().join() === should.join()) return [];
      return [differing(`TABLE ${object}`, object, role, has?.privileges ?? [], should)];
    });
  });
}

function differing(
  target: string,
  object: string,
  role: string,
  has: readonly string[],
  should: readonly string[],
): Finding {
  const anew = should.length === 0 ? '' : `\nGRANT ${should.join(', ')} ON ${target} TO ${role};`;
  return {
    kind: 'grant',
    object,
    invariant: 'rights-as-made',
    detail: `${role} may ${has.join(', ') || 'do nothing'} on ${object}, and ought to ${should.join(', ') || 'do nothing'}, without passing it on.`,
    mend: `REVOKE ALL ON ${target} FROM ${role} CASCADE;${anew}`,
  };
}

/** Tenantry grants nothing on single columns. */
async function onColumns({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; column: string; grantee: string; privileges: string[] }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS object, quote_ident(t.attname) AS column,
            ${grantee('a.grantee')} AS grantee, array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges
       FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
            aclexplode(t.attacl) a
      WHERE a.grantee <> c.relowner AND c.relkind IN ('r', 'p')
        AND (n.nspname = $1 AND c.relname = ANY ($2) OR n.nspname = 'tenantry' AND a.grantee IN ${REACHING})
      GROUP BY n.nspname, c.relname, t.attname, a.grantee ORDER BY 1, 2, 3`,
    [manifest.postgres.schema, Object.keys(manifest.postgres.tables)],
  );
  return rows.map(({ object, column, grantee: role, privileges }) => ({
    kind: 'grant',
    object: `${object}.${column}`,
    invariant: 'no-rights-on-columns',
    detail: `${role} may ${privileges.join(', ')} the column ${object}.${column} by a right of the column's own.`,
    mend: `REVOKE ALL (${column}) ON TABLE ${object} FROM ${role} CASCADE;`,
  }));
}

/**
 * All tenants share a sequence: reading it or drawing from it tells how much the others do, and setting it stops them. A
 * manifest declares none, so nobody needs one. A view is for roles that are named, never for PUBLIC.
 */
async function onSequencesAndViews({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; sequence: boolean; grantees: string[] }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS object, c.relkind = 'S' AS sequence,
            array_agg(DISTINCT ${grantee('a.grantee')} ORDER BY ${grantee('a.grantee')}) AS grantees
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
      WHERE a.grantee <> c.relowner AND n.nspname IN ($1, 'tenantry')
        AND (c.relkind = 'S' AND a.grantee IN ${REACHING} OR c.relkind = 'v' AND a.grantee = 0)
      GROUP BY n.nspname, c.relname, c.relkind ORDER BY 1`,
    [manifest.postgres.schema],
  );
  return rows.map(({ object, sequence, grantees }) => ({
    kind: sequence ? 'sequence' : 'grant',
    object,
    invariant: sequence ? 'sequence-out-of-reach' : 'rights-as-made',
    detail: sequence
      ? `${object} counts for all tenants at once, and ${grantees.join(', ')} may use it.`
      : `PUBLIC, which is every role of the server, has rights on ${object}.`,
    mend: `REVOKE ALL ON ${object} FROM ${grantees.join(', ')} CASCADE;`,
  }));
}

async function onSchemas({ ask, manifest }: Examination): Promise<Finding[]> {
  const { schema } = manifest.postgres;
  const rows = await ask<AclRow & { has_relations: boolean }>(
    `SELECT n.nspname AS schema, n.nspname AS name, quote_ident(n.nspname) AS object,
            ${grantee('a.grantee')} AS grantee, bool_or(a.is_grantable) AS grantable,
            array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges,
            EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid
                       AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) AS has_relations
       FROM pg_namespace n, ${aclOf('n.nspacl', 'n', 'n.nspowner')} a
      WHERE ${FOREIGN_SCHEMA} AND a.grantee <> n.nspowner AND a.grantee IN ${REACHING}
      GROUP BY n.oid, n.nspname, a.grantee ORDER BY n.nspname COLLATE "C", 4`,
  );
  const ours = await ask<{ name: string; object: string; owner: string }>(
    `SELECT nspname AS name, quote_ident(nspname) AS object, pg_get_userbyid(nspowner) AS owner FROM pg_namespace
      WHERE nspname IN ($1, 'tenantry') ORDER BY nspname COLLATE "C"`,
    [schema],
  );
  const inOurs = ours.flatMap(({ name, object, owner }) =>
    ['PUBLIC', ROLES.purge, ROLES.runtime].flatMap((role): Finding[] => {
      if (role === owner) return [];
      const has = rows.find((row) => row.name === name && row.grantee === role);
      const should = role === 'PUBLIC' ? [] : ['USAGE'];
      if (has?.grantable !== true && (has?.privileges ?? []).join() === should.join()) return [];
      return [differing(`SCHEMA ${object}`, object, role, has?.privileges ?? [], should)];
    }),
  );
  const inOthers = rows
    .filter(({ name }) => name !== schema && name !== 'tenantry')
    // A schema with functions alone is a library's: functions.ts looks at each.
    .filter(({ has_relations, privileges }) => has_relations || privileges.includes('CREATE'))
    .map(
      ({ object, grantee: role, privileges }): Finding => ({
        kind: 'schema',
        object,
        invariant: 'schemas-of-the-manifest-only',
        detail: `${role} has ${privileges.join(', ')} on ${object}, where no policy of ours protects anything.`,
        mend: `REVOKE ALL ON SCHEMA ${object} FROM ${role} CASCADE;`,
      }),
    );
  return [...inOurs, ...inOthers];
}

const DEFAULTS_ON: Readonly<Record<string, string>> = {
  r: 'TABLES',
  S: 'SEQUENCES',
  f: 'ROUTINES',
  n: 'SCHEMAS',
  L: 'LARGE OBJECTS',
};

/** Default privileges, which whatever is made later has at once. EXECUTE for PUBLIC is PostgreSQL's own default. */
async function defaults({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ role: string; schema: string | null; type: string; grantee: string }>(
    `SELECT DISTINCT quote_ident(pg_get_userbyid(d.defaclrole)) AS role, quote_ident(n.nspname) AS schema,
            d.defaclobjtype::text AS type, ${grantee('a.grantee')} AS grantee
       FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a
      WHERE a.grantee IN ${REACHING} AND d.defaclobjtype::text = ANY ($1)
        AND NOT (d.defaclobjtype = 'f' AND d.defaclnamespace = 0 AND a.grantee = 0)
      ORDER BY 1, 2 NULLS FIRST, 3, 4`,
    [Object.keys(DEFAULTS_ON)],
  );
  return rows.map(({ role, schema, type, grantee: to }) => {
    const what = DEFAULTS_ON[type] ?? '';
    const where = schema === null ? '' : ` IN SCHEMA ${schema}`;
    return {
      kind: 'grant' as const,
      object: `${what} of ${role}${where}`,
      invariant: 'no-default-rights',
      detail: `${to} gets rights on ${what.toLowerCase()} that ${role} will make${where}, before anybody has protected them.`,
      mend: `ALTER DEFAULT PRIVILEGES FOR ROLE ${role}${where} REVOKE ALL ON ${what} FROM ${to} CASCADE;`,
    };
  });
}
