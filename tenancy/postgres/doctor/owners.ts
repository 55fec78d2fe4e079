/** No right and no policy binds an owner, so the product's roles and the purge's own nothing. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { CONTEXT_FUNCTION_NAMES } from './cell.js';
import { type Check, type Finding, type FindingKind, REACHING } from './finding.js';
import { grantsOf } from './grants.js';

interface OwnedRow {
  /** As pg_identify_object has it. */
  readonly type: string;
  readonly object: string;
  readonly role: string;
  /** Without quotes; null for what is in no schema. */
  readonly schema: string | null;
  readonly name: string | null;
}

/** The kinds for which ALTER has another word than pg_identify_object. */
const ALTERED_AS: Readonly<Record<string, string>> = {
  function: 'ROUTINE',
  procedure: 'ROUTINE',
  aggregate: 'ROUTINE',
  'statistics object': 'STATISTICS',
};

/** Any other kind is `other`, and named in the finding's `object`. */
const KINDS: Readonly<Record<string, FindingKind>> = {
  table: 'table',
  view: 'view',
  'materialized view': 'materialized view',
  'foreign table': 'foreign table',
  sequence: 'sequence',
  function: 'function',
  procedure: 'function',
  aggregate: 'function',
  type: 'type',
  schema: 'schema',
  database: 'database',
  'large object': 'large object',
  server: 'foreign server',
  'foreign-data wrapper': 'foreign server',
  extension: 'extension',
  publication: 'publication',
};

/** An extension's owner changes only by REASSIGN OWNED, with all else of the old one's. */
const REASSIGNED = 'extension';

export const checkOwners: Check = async ({ ask, manifest }) => {
  const rows = await ask<OwnedRow>(
    `SELECT i.type, CASE WHEN s.classid = 'pg_proc'::regclass THEN s.objid::regprocedure::text ELSE i.identity END AS object,
            quote_ident(pg_get_userbyid(s.refobjid)) AS role,
            n.nspname AS schema, c.relname AS name
       FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, s.objsubid) AS i
       LEFT JOIN pg_namespace n ON quote_ident(n.nspname) = i.schema
       LEFT JOIN pg_class c ON c.relnamespace = n.oid AND quote_ident(c.relname) = i.name
      WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND s.refobjid IN ${REACHING}
        AND (s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          OR s.dbid = 0 AND i.type = 'database' AND i.identity = quote_ident(current_database()))
        -- Default privileges and user mappings are looked at elsewhere; temporary things, by the right to make them.
        AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
        AND i.schema IS DISTINCT FROM 'pg_temp' AND i.schema ~ '^pg_temp_' IS NOT TRUE
        -- A column's sequence goes with its table, a multirange with its range.
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype IN ('a', 'i')
                           AND d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass))
        -- The functions that enter a tenant are mended as a whole: cell.ts.
        AND NOT (s.classid = 'pg_proc'::regclass AND i.identity ~ $1)
      ORDER BY i.type COLLATE "C", i.identity COLLATE "C"`,
    [`^tenantry\\.(${CONTEXT_FUNCTION_NAMES.join('|')})\\(`],
  );
  return rows.map(({ type, object, role, schema, name }): Finding => {
    const kind = KINDS[type] ?? 'other';
    // The former owner loses its rights with the table, so those that it should have are granted again.
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
      object: kind === 'other' ? `${type} ${object}` : object,
      invariant: 'not-owned-by-the-product',
      detail: `The ${type} ${object} is owned by ${role}, who may change it, what protects it and its rights.`,
      mend:
        type === REASSIGNED
          ? `REASSIGN OWNED BY ${role} TO ${ROLES.owner};`
          : `ALTER ${ALTERED_AS[type] ?? type.toUpperCase().replace('-', ' ')} ${object} OWNER TO ${ROLES.owner};${regrants.join('')}`,
    };
  });
};
