/**
 * Code that runs in the database: functions, triggers and rules. By each of them a statement of the product's may
 * run with other rights than its own, or become another tenant's half-way.
 */
import { ROLES } from '../../../catalogue/bootstrap.js';
import { CONTEXT_FUNCTION_NAMES } from './cell.js';
import {
  aclOf,
  added,
  type Check,
  type Examination,
  type Finding,
  REACHING,
  USABLE_SCHEMA,
  withParts,
} from './finding.js';
import { settingName, settingsAmong, TENANT_SETTINGS } from './settings.js';

export const checkCode: Check = async (examination) => {
  const functions = await functionsOf(examination);
  const found = functions.filter((f) => f.definer || f.sets || f.settings.length > 0);
  return [
    ...functions.flatMap(functionFindings),
    ...(await triggers(examination, new Set(found.map((f) => f.object)))),
    ...(await rules(examination)),
  ];
};

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

/** Of a function `p`: an aggregate calls it, for which nobody but the aggregate's owner needs a right. */
const BY_AN_AGGREGATE = `p.prosecdef AND EXISTS (SELECT FROM pg_depend d JOIN pg_aggregate g ON g.aggfnoid = d.objid
  WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid = 'pg_proc'::regclass)`;

/**
 * Of a function `p`: a view, a default, a check, a policy, an operator, a cast or a type calls it, for which nobody needs to
 * see its schema.
 */
const BY_AN_EXPRESSION = `p.prosecdef AND EXISTS (SELECT FROM pg_depend d
  WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.classid IN (
    'pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_policy'::regclass,
    'pg_operator'::regclass, 'pg_cast'::regclass, 'pg_type'::regclass))`;

/**
 * Of a function `p`: a SET of the tenant is in its body, or one of what is put together there. SET is anybody's to say, and
 * what is said in a function no guard of statements reads.
 */
const SETS = `(p.prosrc ~* '\\mset\\s+((local|session)\\s+)?"?app"?\\s*\\.\\s*"?tenant_'
  OR p.prosrc ~* '\\mexecute\\M[^;]*''\\s*set\\s+((local|session)\\s+)?(%|''|"?app\\M)')`;

/** Those that the product's statements may call. */
const functionsOf = ({ ask }: Examination): Promise<FunctionRow[]> =>
  ask(
    `SELECT p.oid::regprocedure::text AS object, p.prosecdef AS definer, r.rolsuper OR r.rolbypassrls AS elevated,
            p.proleakproof AS leakproof, p.prokind = 'a' AS aggregate,
            NOT l.lanpltrusted AND p.prokind <> 'a' AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                 AND d.deptype = 'e' AND l.lanname IN ('c', 'internal')) AS untrusted,
            ${settingsAmong('$2')} AS settings, ${SETS} AS sets,
            l.lanname = 'c' AND p.prosrc = 'set_limit' AS stays
       -- OFFSET 0: the rights on PostgreSQL's own thousands are not looked at only to be left out.
       FROM (SELECT p.*, ${BY_AN_AGGREGATE} AS aggregated FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
              WHERE ${added('p.oid', 'p.proowner')} AND (${USABLE_SCHEMA} OR ${BY_AN_EXPRESSION} OR ${BY_AN_AGGREGATE})
                AND NOT (n.nspname = 'tenantry' AND p.proname = ANY ($1)) OFFSET 0) AS p
       JOIN pg_roles r ON r.oid = p.proowner JOIN pg_language l ON l.oid = p.prolang
      WHERE p.aggregated OR EXISTS (SELECT FROM ${aclOf('p.proacl', 'f', 'p.proowner')} a
                     WHERE a.privilege_type = 'EXECUTE' AND a.grantee IN ${REACHING})
      ORDER BY 1`,
    [CONTEXT_FUNCTION_NAMES, TENANT_SETTINGS],
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
        `${object} has a SET of the tenant in its body, or one of whatever it is given: by calling it a statement becomes another tenant's.`,
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

interface TriggerRow {
  readonly table: string;
  readonly name: string;
  readonly routine: string;
  readonly definer: boolean;
  readonly settings: readonly string[];
  readonly sets: boolean;
}

/** Of a relation `c` in a namespace `n`. */
const OF_THE_PRODUCT = 'n.nspname = $1';

/** A trigger's function needs nobody's right to run. */
async function triggers({ ask, manifest }: Examination, known: ReadonlySet<string>): Promise<Finding[]> {
  const rows = await ask<TriggerRow>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(t.tgname) AS name,
            p.oid::regprocedure::text AS routine, p.prosecdef AS definer, ${settingsAmong('$2')} AS settings, ${SETS} AS sets
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_proc p ON p.oid = t.tgfoid
      WHERE c.oid IN ${withParts(OF_THE_PRODUCT)} AND NOT t.tgisinternal AND t.tgparentid = 0
      ORDER BY 1, 2`,
    [manifest.postgres.schema, TENANT_SETTINGS],
  );
  return rows
    .filter(({ routine }) => !known.has(routine))
    .flatMap(({ table, name, routine, definer, settings, sets }) => {
      const finding = (invariant: string, detail: string, mend: string): Finding => ({
        kind: 'trigger',
        object: `${table}.${name}`,
        invariant,
        detail,
        mend,
      });
      return [
        definer &&
          finding(
            'trigger-security-invoker',
            `The trigger ${name} of ${table} runs ${routine} with the rights of that function's owner.`,
            `ALTER ROUTINE ${routine} SECURITY INVOKER;`,
          ),
        settings.length > 0 &&
          finding(
            'trigger-keeps-the-tenant',
            `The trigger ${name} of ${table} runs ${routine}, which sets ${settings.join(', ')} while it runs.`,
            settings.map((setting) => `ALTER ROUTINE ${routine} RESET ${settingName(setting)};`).join('\n'),
          ),
        sets &&
          finding(
            'trigger-keeps-the-tenant',
            `The trigger ${name} of ${table} runs ${routine}, which has a SET of the tenant in its body, or one of whatever it is given.`,
            `DROP TRIGGER ${name} ON ${table};`,
          ),
      ].filter((found) => found !== false);
    });
}

/** What a rule makes of a statement runs with the rights of the table's owner. */
async function rules({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ table: string; name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(w.rulename) AS name
       FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid IN ${withParts(OF_THE_PRODUCT)} AND w.rulename <> '_RETURN' ORDER BY 1, 2`,
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
