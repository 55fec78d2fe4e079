/** Who owns a thing is bound by nothing on it, so the product's roles and the purge's own none. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { type Check, type Finding, type FindingKind, FOREIGN_SCHEMA, REACHING } from './finding.js';
import { grantsOf } from './grants.js';

interface OwnedRow {
  readonly kind: FindingKind;
  readonly object: string;
  readonly role: string;
  /** Of a relation, as the manifest has it. */
  readonly schema: string | null;
  readonly name: string | null;
  /** The statement up to the new owner. */
  readonly statement: string;
}

export const checkOwners: Check = async ({ ask, manifest }) => {
  const rows = await ask<OwnedRow>(
    `SELECT owned.*, quote_ident(pg_get_userbyid(owner)) AS role FROM (
       SELECT kind, format('%I.%I', n.nspname, c.relname) AS object, n.nspname AS schema, c.relname AS name,
              format('ALTER %s %I.%I OWNER TO', upper(kind), n.nspname, c.relname) AS statement, c.relowner AS owner
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
              LATERAL (SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                 WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind) AS k
        WHERE ${FOREIGN_SCHEMA} AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
          -- A sequence of a column's goes with its table.
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                             AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
       UNION ALL
       SELECT 'function', p.oid::regprocedure::text, NULL, NULL,
              format('ALTER ROUTINE %s OWNER TO', p.oid::regprocedure), p.proowner
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        -- Those that a transaction is entered by are mended as a whole.
        WHERE ${FOREIGN_SCHEMA} AND n.nspname <> 'tenantry'
       UNION ALL
       SELECT 'schema', quote_ident(nspname), NULL, NULL, format('ALTER SCHEMA %I OWNER TO', nspname), nspowner
         FROM pg_namespace n WHERE ${FOREIGN_SCHEMA}
       UNION ALL
       SELECT 'database', quote_ident(datname), NULL, NULL, format('ALTER DATABASE %I OWNER TO', datname), datdba
         FROM pg_database WHERE datname = current_database()
       UNION ALL
       SELECT 'large object', oid::text, NULL, NULL, format('ALTER LARGE OBJECT %s OWNER TO', oid), lomowner
         FROM pg_largeobject_metadata
     ) AS owned
     WHERE owner IN ${REACHING} AND owner <> 0
     ORDER BY kind COLLATE "C", object COLLATE "C"`,
  );
  return rows.map(({ kind, object, role, schema, name, statement }): Finding => {
    // The former owner's rights go with it, so those that it should have are given again.
    const regrants =
      schema === manifest.postgres.schema && name !== null && kind === 'table'
        ? grantsOf(manifest, name).map(
            (grant) => `\nGRANT ${grant.privileges.join(', ')} ON ${object} TO ${grant.role};`,
          )
        : kind === 'schema' && object === manifest.postgres.schema
          ? [`\nGRANT USAGE ON SCHEMA ${object} TO ${ROLES.runtime}, ${ROLES.purge};`]
          : [];
    return {
      kind,
      object,
      invariant: 'not-owned-by-the-product',
      detail: `The ${kind} ${object} is owned by ${role}, who may change it, its policies and its rights.`,
      mend: `${statement} ${ROLES.owner};${regrants.join('')}`,
    };
  });
};
