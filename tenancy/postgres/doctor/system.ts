/** What is beside the schemas: the database, ways to other servers, extensions, large objects, publications. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import {
  aclOf,
  type Check,
  type Examination,
  type Finding,
  grantee,
  REACHING,
  USABLE_SCHEMA,
  withParts,
} from './finding.js';

export const checkSystem: Check = async (examination) => [
  ...(await database(examination)),
  ...(await foreignServers(examination)),
  ...(await userMappings(examination)),
  ...(await extensions(examination)),
  ...(await largeObjects(examination)),
  ...(await publications(examination)),
];

/** A temporary table outlives the tenant of a pooled connection. */
async function database({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; grantee: string; privileges: string[] }>(
    `SELECT quote_ident(d.datname) AS object, ${grantee('a.grantee')} AS grantee,
            array_agg(DISTINCT a.privilege_type::text ORDER BY a.privilege_type::text) AS privileges
       FROM pg_database d, ${aclOf('d.datacl', 'd', 'd.datdba')} a
      WHERE d.datname = current_database() AND a.grantee IN ${REACHING} AND a.grantee <> d.datdba
        AND (a.grantee = 0 OR a.privilege_type <> 'CONNECT')
      GROUP BY d.datname, a.grantee ORDER BY 2`,
  );
  return rows.map(({ object, grantee: role, privileges }) => ({
    kind: 'grant',
    object,
    invariant: 'database-rights-as-made',
    detail: `${role} has ${privileges.join(', ')} on the database; nobody but the roles that are named may connect, nobody but the owner make anything.`,
    mend: `REVOKE ${privileges.join(', ')} ON DATABASE ${object} FROM ${role} CASCADE;`,
  }));
}

async function foreignServers({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; statement: string; grantees: string[] }>(
    `SELECT object, statement, array_agg(DISTINCT ${grantee('grantee')} ORDER BY ${grantee('grantee')}) AS grantees
       FROM (
         SELECT quote_ident(srvname) AS object, format('FOREIGN SERVER %I', srvname) AS statement, a.grantee
           FROM pg_foreign_server, ${aclOf('srvacl', 'S', 'srvowner')} a WHERE a.grantee <> srvowner
         UNION ALL
         SELECT quote_ident(fdwname), format('FOREIGN DATA WRAPPER %I', fdwname), a.grantee
           FROM pg_foreign_data_wrapper, ${aclOf('fdwacl', 'F', 'fdwowner')} a WHERE a.grantee <> fdwowner
       ) AS granted WHERE grantee IN ${REACHING} GROUP BY object, statement ORDER BY statement COLLATE "C"`,
  );
  return rows.map(({ object, statement, grantees }) => ({
    kind: 'foreign server',
    object,
    invariant: 'no-way-to-other-servers',
    detail: `${grantees.join(', ')} may use ${statement.toLowerCase()}, behind which nothing knows of tenants.`,
    mend: `REVOKE ALL ON ${statement} FROM ${grantees.join(', ')} CASCADE;`,
  }));
}

async function userMappings({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; user: string }>(
    `SELECT quote_ident(srvname) AS object, ${grantee('umuser')} AS user FROM pg_user_mappings
      WHERE umuser IN ${REACHING} ORDER BY 1, 2`,
  );
  return rows.map(({ object, user }) => ({
    kind: 'foreign server',
    object,
    invariant: 'no-way-to-other-servers',
    detail: `${user} is somebody on the foreign server ${object}, and nothing there knows of tenants.`,
    mend: `DROP USER MAPPING FOR ${user} SERVER ${object};`,
  }));
}

/** With these a statement connects to other servers, reads files, or reads the statements of others. */
const LEADING_OUT = [
  'adminpack',
  'amcheck',
  'dblink',
  'file_fdw',
  'http',
  'pageinspect',
  'pg_cron',
  'pg_net',
  'pg_stat_statements',
  'pg_surgery',
  'pg_visibility',
  'pg_walinspect',
  'pgrowlocks',
  'pgstattuple',
  'plperlu',
  'plpython3u',
  'pltclu',
  'postgres_fdw',
  'xml2',
];

/** Of a function `p`: the body of another that is no extension's names it, so nobody needs USAGE on its schema. */
const NAMED = `EXISTS (SELECT FROM pg_depend c WHERE c.refclassid = 'pg_proc'::regclass AND c.refobjid = p.oid
  AND c.classid = 'pg_proc'::regclass AND NOT EXISTS (
    SELECT FROM pg_depend m WHERE m.classid = c.classid AND m.objid = c.objid AND m.deptype = 'e'))`;

async function extensions({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; routines: string[] }>(
    `SELECT quote_ident(e.extname) AS object,
            array_agg(p.oid::regprocedure::text ORDER BY p.oid::regprocedure::text COLLATE "C") AS routines
       FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
        AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
       JOIN pg_proc p ON p.oid = d.objid JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE e.extname = ANY ($1) AND (${USABLE_SCHEMA} OR ${NAMED})
        AND EXISTS (SELECT FROM ${aclOf('p.proacl', 'f', 'p.proowner')} a WHERE a.grantee IN ${REACHING})
      GROUP BY e.extname ORDER BY 1`,
    [LEADING_OUT],
  );
  return rows.map(({ object, routines }) => ({
    kind: 'extension',
    object,
    invariant: 'extension-out-of-reach',
    detail: `The product may call functions of ${object}, which lead out of its connection, and so past its tenant.`,
    mend: routines
      .map(
        (routine) =>
          `REVOKE EXECUTE ON ROUTINE ${routine} FROM PUBLIC, ${ROLES.runtime}, ${ROLES.purge} CASCADE;`,
      )
      .join('\n'),
  }));
}

/** Rights on them are by role, and all tenants come as the same one. */
async function largeObjects({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; grantees: string[] }>(
    `SELECT m.oid::text AS object,
            array_agg(DISTINCT ${grantee('a.grantee')} ORDER BY ${grantee('a.grantee')}) AS grantees
       FROM pg_largeobject_metadata m, ${aclOf('m.lomacl', 'L', 'm.lomowner')} a
      WHERE a.grantee IN ${REACHING} AND a.grantee <> m.lomowner GROUP BY m.oid ORDER BY m.oid`,
  );
  return rows.map(({ object, grantees }) => ({
    kind: 'large object',
    object,
    invariant: 'large-object-out-of-reach',
    detail: `${grantees.join(', ')} may use the large object ${object}, whichever tenant they act for.`,
    mend: `REVOKE ALL ON LARGE OBJECT ${object} FROM ${grantees.join(', ')} CASCADE;`,
  }));
}

/**
 * Changes are published past every policy (PostgreSQL's documentation: Logical Replication, Security). Subscribing takes
 * REPLICATION, which the product's roles must not have. So no tenant reaches another by it, but the rows of all leave.
 */
async function publications({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; everything: boolean; tables: string[]; schemas: string[] }>(
    `SELECT * FROM (
       SELECT quote_ident(p.pubname) AS object, p.puballtables AS everything,
              ARRAY(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_publication_rel r
                      JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE r.prpubid = p.oid AND c.oid IN ${withParts(`n.nspname IN ($1, 'tenantry')`)} ORDER BY 1) AS tables,
              ARRAY(SELECT quote_ident(n.nspname) FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
                     WHERE s.pnpubid = p.oid AND n.oid IN (
                       SELECT c.relnamespace FROM pg_class c
                        WHERE c.oid IN ${withParts(`n.nspname IN ($1, 'tenantry')`)}) ORDER BY 1) AS schemas
         FROM pg_publication p) AS p
      WHERE everything OR tables <> '{}' OR schemas <> '{}' ORDER BY object COLLATE "C"`,
    [manifest.postgres.schema],
  );
  return rows.map(({ object, everything, tables, schemas }) => ({
    kind: 'publication',
    object,
    invariant: 'no-rows-published',
    severity: 'warning',
    detail: `Rows of all tenants leave by the publication ${object} (${everything ? 'all tables' : [...tables, ...schemas].join(', ')}), where no policy holds: whoever takes them has to keep tenants apart.`,
    mend: everything
      ? `DROP PUBLICATION ${object};`
      : [
          tables.length > 0 && `ALTER PUBLICATION ${object} DROP TABLE ${tables.join(', ')};`,
          schemas.length > 0 && `ALTER PUBLICATION ${object} DROP TABLES IN SCHEMA ${schemas.join(', ')};`,
        ]
          .filter(Boolean)
          .join('\n'),
  }));
}
