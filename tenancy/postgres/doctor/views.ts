/**
 * Relations that are read past the policies of what is behind them. In any schema: what a view or a function's body names
 * is reached without USAGE on its schema.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';
import {
  added,
  type Check,
  type Examination,
  type Finding,
  type FindingKind,
  RELATION_GRANTEES,
  USABLE_SCHEMA,
} from './finding.js';

export const checkViews: Check = async (examination) => [
  ...(await views(examination)),
  ...(await tablesBehind(examination)),
];

/** Of a relation `c`: a view or rule of another one, a policy or the body of a function names it. */
const NAMED = `EXISTS (SELECT FROM pg_depend d
  LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND w.ev_class IS DISTINCT FROM c.oid
   AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass))`;

/** Of a view `c` that came with PostgreSQL: somebody has made it read something that did not. */
const REPLACED = `EXISTS (SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
 WHERE w.ev_class = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= 16384 AND d.refobjid <> c.oid)`;

async function views({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; materialized: boolean; grantees: string[] }>(
    `SELECT * FROM (
       SELECT format('%I.%I', n.nspname, c.relname) AS object, c.relkind = 'm' AS materialized,
              ${RELATION_GRANTEES} AS grantees
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND (${added('c.oid', 'c.relowner')} OR ${REPLACED})
          AND (${USABLE_SCHEMA} OR ${NAMED})
          AND NOT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
                           WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)) AS v
      WHERE grantees && ARRAY['PUBLIC', $1, $2] ORDER BY object COLLATE "C"`,
    [ROLES.runtime, ROLES.purge],
  );
  return rows.map(({ object, materialized, grantees }) =>
    materialized
      ? {
          kind: 'materialized view',
          object,
          invariant: 'materialized-view-out-of-reach',
          detail: `${object} holds rows of all tenants, no policy can bind it, and ${grantees.join(', ')} may read it.`,
          mend: `REVOKE ALL ON ${object} FROM ${grantees.join(', ')} CASCADE;`,
        }
      : {
          kind: 'view',
          object,
          invariant: 'view-security-invoker',
          detail: `${object} reads with its owner's rights, past the policies for whoever asks (${grantees.join(', ')}).`,
          mend: `ALTER VIEW ${object} SET (security_invoker = true);`,
        },
  );
}

/** Tables of the product's schema and of `tenantry` are looked at elsewhere, PostgreSQL's own in server.ts. */
async function tablesBehind({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; kind: FindingKind; grantees: string[] }>(
    `SELECT * FROM (
       SELECT format('%I.%I', n.nspname, c.relname) AS object,
              CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind,
              ${RELATION_GRANTEES} AS grantees
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f', 'S') AND n.nspname NOT IN ($3, 'tenantry', 'information_schema')
          AND n.nspname !~ '^pg_' AND ${NAMED}) AS t
      WHERE grantees && ARRAY['PUBLIC', $1, $2] ORDER BY object COLLATE "C"`,
    [ROLES.runtime, ROLES.purge, manifest.postgres.schema],
  );
  return rows.map(({ object, kind, grantees }) => ({
    kind,
    object,
    invariant: 'undeclared-table-locked',
    detail: `The ${kind} ${object} is not in the manifest and no policy of ours protects it; ${grantees.join(', ')} may use it by what names it.`,
    mend: `REVOKE ALL ON ${object} FROM ${grantees.join(', ')} CASCADE;`,
  }));
}
