/**
 * The policies as they are made, and no others. What is expected is read from the SQL that makes them, so the two cannot
 * drift apart. A restrictive policy is let be, as long as it sees only rows that ours let through.
 */
import { TENANT_SETTING } from '../context-sql.js';
import { cellSchema, createTable, qualified } from '../product-schema.js';
import type { Check, Examination, Finding } from './finding.js';

interface Expected {
  readonly name: string;
  readonly command: string;
  readonly roles: readonly string[];
  readonly using: string | undefined;
  readonly check: string | undefined;
  /** The statement that makes it. */
  readonly statement: string;
}

interface Found {
  readonly name: string;
  readonly quoted: string;
  readonly permissive: boolean;
  readonly command: string;
  readonly roles: readonly string[];
  readonly using: string | null;
  readonly check: string | null;
  /** Uses an operator, a function or a cast that is neither PostgreSQL's nor ours. Such a cast reads like PostgreSQL's. */
  readonly foreign: boolean;
  /**
   * Functions that it calls and that cost no more than a comparison. PostgreSQL asks the cheapest condition first, at equal
   * cost that of a restrictive policy. So such a function sees the rows of all tenants, and may tell.
   */
  readonly early: readonly string[];
}

export const checkPolicies: Check = async (examination) => {
  const { schema, tables, hardened } = examination.manifest.postgres;
  const findings: Finding[] = await policiesOf(examination, 'tenantry', 'gate', cellSchema(hardened));
  for (const [name, table] of Object.entries(tables).sort(([a], [b]) => (a < b ? -1 : 1)))
    findings.push(
      ...(await policiesOf(examination, schema, name, createTable(examination.manifest, name, table))),
    );
  return findings;
};

async function policiesOf(
  { ask, manifest }: Examination,
  schema: string,
  table: string,
  madeBy: string,
): Promise<Finding[]> {
  const target = schema === 'tenantry' ? `tenantry.${table}` : qualified(manifest, table);
  const [there] = await ask<{ object: string }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS object
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`,
    [schema, table],
  );
  if (there === undefined) return [];
  const found = await ask<Found>(
    `SELECT p.polname AS name, quote_ident(p.polname) AS quoted, p.polpermissive AS permissive,
            CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
              ELSE 'ALL' END AS command,
            ARRAY(SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(role)::text END
                    FROM unnest(p.polroles) AS role ORDER BY 1) AS roles,
            pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check,
            EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                       AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
                       AND d.refobjid IS DISTINCT FROM to_regprocedure('tenantry.verified_tenant()')) AS foreign,
            ARRAY(SELECT f.oid::regprocedure::text FROM pg_depend d
                    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
                    JOIN pg_proc f ON f.oid = CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
                    JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('c', 'internal')
                   WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND f.procost <= 1 ORDER BY 1) AS early
       FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 ORDER BY p.polname COLLATE "C"`,
    [schema, table],
  );
  const expected = expectedPolicies(madeBy);
  const names = new Set(expected.map(({ name }) => name));
  return [
    ...expected.flatMap((policy) =>
      comparison(
        policy,
        found.find(({ name }) => name === policy.name),
        there.object,
        target,
      ),
    ),
    ...found
      .filter(({ name, permissive }) => permissive && !names.has(name))
      .map(
        ({ quoted, roles, command }): Finding => ({
          kind: 'policy',
          object: `${there.object}.${quoted}`,
          invariant: 'policy-of-ours-only',
          detail: `Beside the policies of ours another lets ${roles.join(', ')} reach rows of ${there.object} (${command}).`,
          mend: `DROP POLICY ${quoted} ON ${target};`,
        }),
      ),
    ...found
      .filter(({ permissive, early }) => !permissive && early.length > 0)
      .map(
        ({ quoted, early }): Finding => ({
          kind: 'policy',
          object: `${there.object}.${quoted}`,
          invariant: 'policy-asked-after-ours',
          detail: `The policy ${quoted} of ${there.object} calls ${early.join(', ')}, which costs so little that it is called for rows of all tenants, before ours are asked.`,
          mend: early.map((routine) => `ALTER ROUTINE ${routine} COST 100;`).join('\n'),
        }),
      ),
  ];
}

function comparison(expected: Expected, found: Found | undefined, table: string, target: string): Finding[] {
  const { name, statement } = expected;
  const broken = (invariant: string, detail: string): Finding[] => [
    {
      kind: 'policy',
      object: `${table}.${name}`,
      invariant,
      detail,
      mend: `DROP POLICY IF EXISTS ${name} ON ${target};\n${statement}`,
    },
  ];
  if (found === undefined)
    return broken(
      'policy-present',
      `The policy ${name} of ${table} is missing: what it lets through is refused.`,
    );
  if (/current_setting\([^()]*,\s*true\)/.test(`${found.using} ${found.check}`))
    return broken(
      'policy-refuses-no-tenant',
      `The policy ${name} of ${table} reads ${TENANT_SETTING} with missing_ok: no tenant is no error there.`,
    );
  const same =
    found.permissive &&
    !found.foreign &&
    found.command === expected.command &&
    found.roles.join() === expected.roles.join() &&
    normalised(found.using ?? undefined) === normalised(expected.using) &&
    normalised(found.check ?? undefined) === normalised(expected.check);
  if (same) return [];
  return broken(
    'policy-as-made',
    `The policy ${name} of ${table} is not the one that was made: its rows, its role, its command or what it calls are others.`,
  );
}

/** From the statements that make a table. */
function expectedPolicies(madeBy: string): Expected[] {
  const statements = madeBy.matchAll(
    /CREATE POLICY (\w+) ON \S+(?: FOR (\w+))? TO ([\w, ]+?)(?:\s+USING (\([^;]*?\)))?(?:\s+WITH CHECK (\([^;]*?\)))?;/g,
  );
  return [...statements].map(([statement, name = '', command = 'ALL', roles = '', using, check]) => ({
    name,
    command,
    roles: roles.trim().split(/,\s*/).sort(),
    using,
    check,
    statement,
  }));
}

/**
 * Makes an expression comparable, whether as written or as PostgreSQL shows it: without white space, parentheses and the
 * casts of literals. Between terms with only `=` and AND, parentheses mean nothing.
 */
function normalised(expression: string | undefined): string | undefined {
  return expression
    ?.split(/('(?:[^']|'')*')/)
    .map((part, index) =>
      index % 2 === 1
        ? part
        : part
            .replace(/\s+AS verified_tenant\b/g, '')
            .replace(/::text\b/g, '')
            .replace(/\s*= ANY \(?ARRAY\[|\s+IN \(/g, '=')
            .replace(/[\s()\]]/g, ''),
    )
    .join('');
}
