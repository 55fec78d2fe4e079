/**
 * Code that runs in the database: views, functions, triggers and rules. By each of them a statement of the product's may
 * run with other rights than its own, or become another tenant's half-way.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { TENANT_SETTING, TOKEN_SETTING } from '../context-sql.js';
import { CONTEXT_FUNCTION_NAMES } from './cell.js';
import {
  aclOf,
  type Check,
  type Examination,
  type Finding,
  REACHING,
  RELATION_GRANTEES,
  USABLE_SCHEMA,
} from './finding.js';
import { settingName } from './settings.js';

export const checkCode: Check = async (examination) => {
  const functions = await functionsOf(examination);
  return [
    ...(await views(examination)),
    ...functions.flatMap(functionFindings),
    ...(await triggers(examination, new Set(functions.filter((f) => f.definer).map((f) => f.object)))),
    ...(await rules(examination)),
  ];
};

async function views({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<{ object: string; materialized: boolean; grantees: string[] }>(
    `SELECT * FROM (
       SELECT format('%I.%I', n.nspname, c.relname) AS object, c.relkind = 'm' AS materialized,
              ${RELATION_GRANTEES} AS grantees
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE ${USABLE_SCHEMA} AND c.relkind IN ('v', 'm')
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

interface FunctionRow {
  readonly object: string;
  readonly definer: boolean;
  readonly elevated: boolean;
  readonly leakproof: boolean;
  readonly untrusted: boolean;
  readonly aggregate: boolean;
  readonly settings: readonly string[];
  readonly sets: boolean;
  /** Known to change a setting of the session. */
  readonly stays: boolean;
}

/** Of a function `p`: a view, a default, a check or a policy calls it, for which nobody needs to see its schema. */
const BY_AN_EXPRESSION = `p.prosecdef AND EXISTS (SELECT FROM pg_depend d
  WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid IN (
    'pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass))`;

/** Those that the product's statements may call. */
const functionsOf = ({ ask }: Examination): Promise<FunctionRow[]> =>
  ask(
    `SELECT p.oid::regprocedure::text AS object, p.prosecdef AS definer, r.rolsuper OR r.rolbypassrls AS elevated,
            p.proleakproof AS leakproof, p.prokind = 'a' AS aggregate,
            NOT l.lanpltrusted AND p.prokind <> 'a' AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                 AND d.deptype = 'e' AND l.lanname IN ('c', 'internal')) AS untrusted,
            ARRAY(SELECT lower(split_part(s, '=', 1)) FROM unnest(p.proconfig) AS s
                   WHERE lower(split_part(s, '=', 1)) = ANY ($2) ORDER BY 1) AS settings,
            -- SET is anybody's to say, and what is said in a function no guard of statements reads.
            p.prosrc ~* '\\mset\\s+((local|session)\\s+)?"?app"?\\s*\\.\\s*"?tenant_' AS sets,
            l.lanname = 'c' AND p.prosrc = 'set_limit' AS stays
       -- OFFSET 0: the rights on PostgreSQL's own thousands are not looked at only to be left out.
       FROM (SELECT p.* FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE (${USABLE_SCHEMA} OR ${BY_AN_EXPRESSION})
                AND NOT (n.nspname = 'tenantry' AND p.proname = ANY ($1)) OFFSET 0) AS p
       JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
      WHERE EXISTS (SELECT FROM ${aclOf('p.proacl', 'f', 'p.proowner')} a
                     WHERE a.privilege_type = 'EXECUTE' AND a.grantee IN ${REACHING})
      ORDER BY 1`,
    [CONTEXT_FUNCTION_NAMES, [TENANT_SETTING, TOKEN_SETTING]],
  );

function functionFindings(row: FunctionRow): Finding[] {
  const { object } = row;
  const finding = (invariant: string, detail: string, mend: string): Finding => ({
    kind: 'function',
    object,
    invariant,
    detail,
    mend,
  });
  const withdraw = `REVOKE EXECUTE ON ROUTINE ${object} FROM PUBLIC, ${ROLES.runtime}, ${ROLES.purge} CASCADE;`;
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
      finding(
        'function-of-a-trusted-language',
        `${object} is written in a language that is bound by no rights, and the product may call it.`,
        withdraw,
      ),
    row.settings.length > 0 &&
      finding(
        'function-keeps-the-tenant',
        `${object} sets ${row.settings.join(', ')} while it runs: its caller is another tenant's for so long.`,
        row.settings.map((name) => `ALTER ROUTINE ${object} RESET ${settingName(name)};`).join('\n'),
      ),
    row.sets &&
      finding(
        'function-keeps-the-tenant',
        `${object} has a SET of the tenant in its body: by calling it a statement becomes another tenant's.`,
        withdraw,
      ),
    row.stays &&
      finding(
        'function-leaves-the-session',
        `${object} changes a setting of the session, which another tenant's statements use next.`,
        withdraw,
      ),
  ].filter((found) => found !== false);
}

/** A trigger's function needs nobody's right to run. */
async function triggers({ ask, manifest }: Examination, known: ReadonlySet<string>): Promise<Finding[]> {
  const rows = await ask<{ table: string; name: string; routine: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(t.tgname) AS name,
            p.oid::regprocedure::text AS routine
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_proc p ON p.oid = t.tgfoid
      WHERE n.nspname = $1 AND NOT t.tgisinternal AND p.prosecdef
      ORDER BY 1, 2`,
    [manifest.postgres.schema],
  );
  return rows
    .filter(({ routine }) => !known.has(routine))
    .map(({ table, name, routine }) => ({
      kind: 'trigger',
      object: `${table}.${name}`,
      invariant: 'trigger-security-invoker',
      detail: `The trigger ${name} of ${table} runs ${routine} with the rights of that function's owner.`,
      mend: `ALTER ROUTINE ${routine} SECURITY INVOKER;`,
    }));
}

/** What a rule makes of a statement runs with the rights of the table's owner. */
async function rules({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ table: string; name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(w.rulename) AS name
       FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND w.rulename <> '_RETURN' ORDER BY 1, 2`,
    [manifest.postgres.schema],
  );
  return rows.map(({ table, name }) => ({
    kind: 'rule',
    object: `${table}.${name}`,
    invariant: 'no-rules',
    detail: `The rule ${name} turns statements on ${table} into others that run with its owner's rights.`,
    mend: `DROP RULE ${name} ON ${table};`,
  }));
}
