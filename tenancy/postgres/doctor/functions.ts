/** Functions that a statement of the product's may run: by name, or through something that calls them. */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { setsTheTenant } from './body.js';
import { CONTEXT_FUNCTION_NAMES } from './cell.js';
import { aclOf, added, type Examination, type Finding, REACHING, USABLE_SCHEMA } from './finding.js';
import { settingName, settingsAmong, TENANT_SETTINGS } from './settings.js';

interface FunctionRow {
  readonly object: string;
  readonly language: string;
  readonly body: string;
  /** Their names. */
  readonly parameters: readonly string[];
  readonly definer: boolean;
  readonly elevated: boolean;
  readonly leakproof: boolean;
  readonly untrusted: boolean;
  readonly settings: readonly string[];
  /** Known to change a setting of the session. */
  readonly stays: boolean;
  /** Those that the product may call, and that call it. */
  readonly aggregates: readonly string[];
  /** See UNASKED. */
  readonly unasked: boolean;
}

/** Of a function `p`: somebody of REACHING may call it. */
const CALLABLE = (p: string): string =>
  `EXISTS (SELECT FROM ${aclOf(`${p}.proacl`, 'f', `${p}.proowner`)} a
    WHERE a.privilege_type = 'EXECUTE' AND a.grantee IN ${REACHING})`;

/** What an aggregate `g` calls with its owner's rights: its caller needs none. */
const PARTS_OF_AN_AGGREGATE = `ARRAY[g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn,
  g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn]::oid[]`;

/**
 * Of a function `p`: something else calls it, so nobody needs USAGE on its schema. A view, a default, a check, a policy, an
 * operator, a cast, a type, a trigger's condition, an index, or the SQL-standard body of another function.
 */
const CALLED = `EXISTS (SELECT FROM pg_depend d
  WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid IN (
    'pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass,
    'pg_operator'::regclass, 'pg_cast'::regclass, 'pg_type'::regclass, 'pg_trigger'::regclass, 'pg_class'::regclass,
    'pg_proc'::regclass, 'pg_amproc'::regclass, 'pg_conversion'::regclass))`;

/**
 * Of a function `p`: what calls it does not ask for EXECUTE. An index or a sort does so by its operator class; so do a
 * range, a conversion, and a type for its input and output. A domain's default and check are expressions, which ask.
 */
const UNASKED = `(EXISTS (SELECT FROM pg_depend d LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
   WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
     AND (d.classid IN ('pg_amproc'::regclass, 'pg_conversion'::regclass) OR t.typtype <> 'd'))
  OR EXISTS (SELECT FROM pg_operator o JOIN pg_amop m ON m.amopopr = o.oid WHERE o.oprcode = p.oid))`;

export const functionFindings = async (examination: Examination): Promise<Finding[]> => [
  ...(await ofFunctions(examination)),
  ...(await ofAggregates(examination)),
];

async function ofFunctions({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<FunctionRow>(
    `SELECT p.oid::regprocedure::text AS object, l.lanname AS language, p.prosrc AS body, p.prosecdef AS definer,
            r.rolsuper OR r.rolbypassrls AS elevated, p.proleakproof AS leakproof,
            NOT l.lanpltrusted AND (p.callable OR p.aggregates <> '{}') AND p.prokind <> 'a'
              AND NOT ${BROUGHT_WITH_SOMETHING} AS untrusted,
            ${settingsAmong('$2')} AS settings, l.lanname = 'c' AND p.prosrc = 'set_limit' AS stays,
            ARRAY(SELECT name FROM unnest(p.proargnames, p.proargmodes) AS a (name, mode)
                   WHERE name <> '' AND coalesce(mode, 'i') IN ('i', 'b', 'v')) AS parameters,
            p.aggregates, p.unasked
       -- OFFSET 0: else the planner looks at the rights on PostgreSQL's own thousands before it leaves them out.
       FROM (SELECT p.*, ${CALLABLE('p')} AS callable, ${UNASKED} AS unasked,
                    ARRAY(SELECT s.oid::regprocedure::text FROM pg_aggregate g JOIN pg_proc s ON s.oid = g.aggfnoid
                           WHERE p.oid = ANY (${PARTS_OF_AN_AGGREGATE}) AND ${CALLABLE('s')} ORDER BY 1) AS aggregates
               FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE ${added('p.oid', 'p.proowner')} AND (${USABLE_SCHEMA} OR ${CALLED})
                -- Only triggers call these: code.ts.
                AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
                AND NOT (n.nspname = 'tenantry' AND p.proname = ANY ($1)) OFFSET 0) AS p
       JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
      WHERE p.callable OR p.unasked OR p.aggregates <> '{}'
      ORDER BY 1`,
    [CONTEXT_FUNCTION_NAMES, TENANT_SETTINGS],
  );
  return rows.flatMap(ofFunction);
}

/** Of a function `p` in a language `l`: C of an extension, or the constructor of a range type. */
export const BROUGHT_WITH_SOMETHING = `EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
  AND (d.deptype = 'e' AND l.lanname IN ('c', 'internal')
    OR d.deptype = 'i' AND d.refclassid = 'pg_type'::regclass AND l.lanname = 'internal'))`;

function ofFunction(row: FunctionRow): Finding[] {
  const { object } = row;
  const finding = (invariant: string, detail: string, mend: string | undefined): Finding => ({
    kind: 'function',
    object,
    invariant,
    detail,
    mend,
  });
  /** If nobody asks for EXECUTE, revoking it changes nothing. */
  const withdrawn = (invariant: string, detail: string): Finding =>
    row.unasked
      ? finding(
          invariant,
          `${detail} It is called without a right, by a class of operators or a type. No SQL is proposed: somebody has to write it anew, or to drop what calls it.`,
          undefined,
        )
      : finding(invariant, detail, [object, ...row.aggregates].map(withdraw).join('\n'));
  return [
    row.definer &&
      finding(
        'function-security-invoker',
        `${object} runs with the rights of its owner${row.elevated ? ', who is beyond row-level security' : ''}, and the product may call it.`,
        `ALTER ROUTINE ${object} SECURITY INVOKER;`,
      ),
    row.leakproof &&
      finding(
        'function-not-leakproof',
        `${object} is marked LEAKPROOF, so a condition with it may see rows of other tenants before the policies do.`,
        `ALTER ROUTINE ${object} NOT LEAKPROOF;`,
      ),
    row.untrusted &&
      withdrawn(
        'function-of-a-trusted-language',
        `${object} is written in a language that is bound by no rights, and the product may call it.`,
      ),
    row.settings.length > 0 &&
      finding(
        'function-keeps-the-tenant',
        `${object} sets ${row.settings.join(', ')} while it runs: its caller is another tenant's for so long.`,
        row.settings.map((name) => `ALTER ROUTINE ${object} RESET ${settingName(name)};`).join('\n'),
      ),
    setsTheTenant(row.language, row.body, row.parameters) &&
      withdrawn(
        'function-keeps-the-tenant',
        `${object} has a SET or RESET of the tenant in its body, or one of whatever it is given: by calling it a statement becomes another tenant's.`,
      ),
    row.stays &&
      withdrawn(
        'function-leaves-the-session',
        `${object} changes a setting of the session, which another tenant's statements use next.`,
      ),
  ].filter((found) => found !== false);
}

/** Aggregates that call for the product what it may not call of PostgreSQL's own, since their owner may. */
async function ofAggregates({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; parts: string[] }>(
    `SELECT * FROM (
       SELECT s.oid::regprocedure::text AS object,
              ARRAY(SELECT p.oid::regprocedure::text FROM pg_proc p
                     WHERE p.oid = ANY (${PARTS_OF_AN_AGGREGATE}) AND p.oid < 16384 AND NOT ${CALLABLE('p')}
                     ORDER BY 1) AS parts
         FROM pg_aggregate g JOIN pg_proc s ON s.oid = g.aggfnoid
        WHERE ${added('s.oid', 's.proowner')} AND ${CALLABLE('s')}) AS a
      WHERE parts <> '{}' ORDER BY object`,
  );
  return rows.map(({ object, parts }) => ({
    kind: 'function',
    object,
    invariant: 'server-function-out-of-reach',
    detail: `${object} calls ${parts.join(', ')} as its owner may, and the product, which may not, may call ${object}.`,
    mend: withdraw(object),
  }));
}

const withdraw = (routine: string): string =>
  `REVOKE EXECUTE ON ROUTINE ${routine} FROM PUBLIC, ${ROLES.runtime}, ${ROLES.purge} CASCADE;`;
