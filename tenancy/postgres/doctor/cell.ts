/**
 * What every cell has: the tables of schema `tenantry`, the functions that enter a tenant, and the casts that these and
 * the policies use.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { CONTEXT_FUNCTIONS } from '../context-sql.js';
import { cellSchema } from '../product-schema.js';
import { asOwner, type Check, type Examination, type Finding } from './finding.js';

export const checkCell: Check = async (examination) => [
  ...(await tables(examination)),
  ...(await functions(examination)),
  ...(await casts(examination)),
];

async function tables({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ name: string }>(
    `SELECT name FROM unnest(ARRAY['gate', 'product_table', 'context_key']) AS name
      WHERE NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = 'tenantry' AND c.relname = name AND c.relkind = 'r')`,
  );
  return rows.map(({ name }) => ({
    kind: 'table',
    object: `tenantry.${name}`,
    invariant: 'cell-table-present',
    detail: `The table tenantry.${name}, on which a cell rests, is missing.`,
    mend: asOwner(name === 'context_key' ? CONTEXT_FUNCTIONS : cellSchema(manifest.postgres.hardened)),
  }));
}

interface ContextFunction {
  readonly name: string;
  readonly volatility: string;
  readonly body: string;
}

/** Our own, as they are made: the only ones that run with the owner's rights. */
const OURS: readonly ContextFunction[] = [
  ...CONTEXT_FUNCTIONS.matchAll(
    /FUNCTION tenantry\.(\w+)\([^;]*? LANGUAGE plpgsql (\w+) [^;]*?AS \$(\w+)\$([^]*?)\$\3\$/g,
  ),
].map(([, name = '', volatility = '', , body = '']) => ({ name, volatility, body }));

export const CONTEXT_FUNCTION_NAMES: readonly string[] = OURS.map(({ name }) => name);

async function functions({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<ContextFunction & { sound: boolean }>(
    `SELECT p.proname AS name, p.prosrc AS body,
            CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END AS volatility,
            p.prosecdef AND p.proconfig IS NULL AND l.lanname = 'plpgsql' AND NOT p.proleakproof AND NOT p.proisstrict
              AND pg_get_userbyid(p.proowner) = $1
              AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                               WHERE a.grantee = 0) AS sound
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
      WHERE n.nspname = 'tenantry'`,
    [ROLES.owner],
  );
  return OURS.flatMap(({ name, volatility, body }): Finding[] => {
    const found = rows.filter((row) => row.name === name);
    const [first] = found;
    if (found.length === 1 && first?.sound && first.body === body && first.volatility === volatility)
      return [];
    return [
      {
        kind: 'function',
        object: `tenantry.${name}`,
        invariant: 'context-function-as-made',
        detail:
          found.length > 1
            ? `There is more than one tenantry.${name}. No SQL is proposed: somebody has to see which others to drop.`
            : `The function tenantry.${name}, which stands for who the tenant is, is missing, altered, or anybody's.`,
        mend: found.length > 1 ? undefined : `${CONTEXT_FUNCTIONS}\n${takenBack(name)}`,
      },
    ];
  });
}

/** CREATE OR REPLACE keeps the owner. It is the only function of its name, so ALTER needs no arguments. */
const takenBack = (name: string): string => `ALTER FUNCTION tenantry.${name} OWNER TO ${ROLES.owner};`;

/**
 * PostgreSQL makes a uuid of a text by the types' own input and output, until somebody adds a cast for it. One
 * WITH INOUT does the same, and is let be.
 */
async function casts({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ cast: string }>(
    `SELECT format('(%s AS %s)', castsource::regtype, casttarget::regtype) AS cast FROM pg_cast
      WHERE oid >= 16384 AND castmethod <> 'i'
        AND '{uuid,text,int4,float8}'::regtype[] @> ARRAY[castsource, casttarget]::regtype[] ORDER BY 1`,
  );
  return rows.map(({ cast }) => ({
    kind: 'other',
    object: `cast ${cast}`,
    invariant: 'context-cast-as-made',
    detail: `A cast ${cast} of somebody's own decides which tenant a transaction is entered for, and which one policies read.`,
    mend: `DROP CAST ${cast};`,
  }));
}
