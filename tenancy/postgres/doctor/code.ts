/**
 * Code that runs in the database: functions, triggers and rules. In any of them a statement of the product's may get
 * other rights, or become another tenant's half-way through.
 */
import { setsTheTenant } from './body.js';
import { type Check, type Examination, type Finding, withParts } from './finding.js';
import { BROUGHT_WITH_SOMETHING, functionFindings } from './functions.js';
import { settingName, settingsAmong, TENANT_SETTINGS } from './settings.js';

export const checkCode: Check = async (examination) => [
  ...(await functionFindings(examination)),
  ...(await triggers(examination)),
  ...(await eventTriggers(examination)),
  ...(await rules(examination)),
];

interface TriggerRow {
  readonly table: string;
  readonly name: string;
  readonly routine: string;
  readonly language: string;
  readonly body: string;
  readonly definer: boolean;
  readonly untrusted: boolean;
  readonly settings: readonly string[];
}

/** Of a trigger's function `p` in a language `l`. */
const ROUTINE = `p.oid::regprocedure::text AS routine, l.lanname AS language, p.prosrc AS body, p.prosecdef AS definer,
  NOT l.lanpltrusted AND NOT ${BROUGHT_WITH_SOMETHING} AS untrusted, ${settingsAmong('$1')} AS settings`;

/** Of a relation `c` in a namespace `n`. */
const ofTheProduct = (schema: string): string => `n.nspname = ${schema}`;

/** A trigger calls its function without asking for EXECUTE. */
async function triggers({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<TriggerRow>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(t.tgname) AS name, ${ROUTINE}
       FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
      WHERE c.oid IN ${withParts(ofTheProduct('$2'))} AND NOT t.tgisinternal AND t.tgparentid = 0
      ORDER BY 1, 2`,
    [TENANT_SETTINGS, manifest.postgres.schema],
  );
  return rows.flatMap((row) =>
    ofTrigger(
      row,
      'trigger',
      `${row.table}.${row.name}`,
      `The trigger ${row.name} of ${row.table}`,
      `DROP TRIGGER ${row.name} ON ${row.table};`,
    ),
  );
}

/**
 * They run as whoever gave the command, even if it is then refused, and some at each login. C functions of an extension
 * (pgaudit's, say) are let be.
 */
async function eventTriggers({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<Omit<TriggerRow, 'table'>>(
    `SELECT quote_ident(e.evtname) AS name, ${ROUTINE}
       FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_language l ON l.oid = p.prolang
      WHERE e.evtenabled <> 'D' AND NOT ${BROUGHT_WITH_SOMETHING} ORDER BY 1`,
    [TENANT_SETTINGS],
  );
  return rows.flatMap((row) =>
    ofTrigger(
      row,
      'event trigger',
      row.name,
      `The event trigger ${row.name}`,
      `ALTER EVENT TRIGGER ${row.name} DISABLE;`,
    ),
  );
}

function ofTrigger(
  { routine, language, body, definer, untrusted, settings }: Omit<TriggerRow, 'table'>,
  kind: 'trigger' | 'event trigger',
  object: string,
  named: string,
  off: string,
): Finding[] {
  const finding = (invariant: string, detail: string, mend: string): Finding => ({
    kind,
    object,
    invariant: `${kind.replace(' ', '-')}-${invariant}`,
    detail: `${named} runs ${routine}${detail}`,
    mend,
  });
  return [
    definer &&
      finding(
        'security-invoker',
        " with the rights of that function's owner.",
        `ALTER ROUTINE ${routine} SECURITY INVOKER;`,
      ),
    untrusted &&
      finding('of-a-trusted-language', ', which is written in a language that is bound by no rights.', off),
    settings.length > 0 &&
      finding(
        'keeps-the-tenant',
        `, which sets ${settings.join(', ')} while it runs.`,
        settings.map((setting) => `ALTER ROUTINE ${routine} RESET ${settingName(setting)};`).join('\n'),
      ),
    setsTheTenant(language, body) &&
      finding(
        'keeps-the-tenant',
        ', which has a SET or RESET of the tenant in its body, or one of whatever it is given.',
        off,
      ),
  ].filter((found) => found !== false);
}

/** What a rule turns a statement into runs with the rights of the table's owner. */
async function rules({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ table: string; name: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(w.rulename) AS name
       FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid IN ${withParts(ofTheProduct('$1'))} AND w.rulename <> '_RETURN' ORDER BY 1, 2`,
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
