/**
 * Takes over tables that the product had before Tenantry, if the manifest says `adopt`. Columns, keys and references are for
 * the table's owner to mend, with the SQL that the doctor proposes. Row-level security, policies and rights are put on by
 * adopting it; from then on only its tenant sees a row.
 */
import { escapeIdentifier, type ClientBase } from 'pg';
import { ROLES } from '../../catalogue/bootstrap.js';
import { inLockedTransaction } from '../../catalogue/lock.js';
import { TenantryError } from '../../domain/errors.js';
import type { ColumnType, Manifest, TableSpec } from '../../domain/manifest.js';
import { checkCode } from './doctor/code.js';
import { type Check, type Finding, type FindingKind, REACHING } from './doctor/finding.js';
import { checkGrants } from './doctor/grants.js';
import { checkForeignKeys, checkKeys } from './doctor/keys.js';
import { checkOwners } from './doctor/owners.js';
import { checkPolicies } from './doctor/policies.js';
import { checkTables } from './doctor/tables.js';
import { checkViews } from './doctor/views.js';
import { ensureCellSchema, knownTables, qualified, recordTable } from './product-schema.js';

export interface AdoptionPlan {
  /** Existing tables that are still to be adopted. */
  readonly tables: readonly string[];
  /** What is in the way, in the order in which to run each `mend`. Empty: they can be adopted. */
  readonly blocking: readonly Finding[];
  /** The statements that adopt them. */
  readonly applied: readonly string[];
}

/** The doctor's checks of the product's tables, in the order in which their mends can be run. */
const CHECKS: readonly Check[] = [
  checkOwners,
  checkTables,
  checkKeys,
  checkForeignKeys,
  checkPolicies,
  checkViews,
  checkCode,
  checkGrants,
];

/** What may stand in the tables' schema and lead a product's statement around their policies. */
const WAYS_AROUND: ReadonlySet<FindingKind> = new Set([
  'view',
  'materialized view',
  'function',
  'trigger',
  'rule',
  'sequence',
]);

/** The invariants that adopting brings about. All others have to hold before. */
const PROTECTION: ReadonlySet<string> = new Set([
  'row-security-enabled',
  'row-security-forced',
  'policy-present',
  'policy-as-made',
  'policy-refuses-no-tenant',
  'rights-as-made',
  'no-rights-on-columns',
]);

/** If the product's statements keep the table locked, adopting gives up before it holds up everybody, and is tried again. */
const LOCK_TIMEOUT = '3s';

/**
 * Adopts all of them or none; safe to repeat. Runs before `ensureProductSchema`, which makes the other tables.
 * @param owner a connection as the schema owner, in no transaction
 * @throws TenantryError STORE_REFUSED whose cause tells all that is in the way, and the SQL that mends it
 */
export async function adoptTables(owner: ClientBase, manifest: Manifest): Promise<{ adopted: string[] }> {
  const { schema, tables } = manifest.postgres;
  if (!Object.values(tables).some(({ adopt }) => adopt)) return { adopted: [] };
  return inLockedTransaction(owner, 'product-schema', async () => {
    await ensureCellSchema(owner, manifest);
    const plan = await planOf(owner, manifest);
    const [first] = plan.blocking;
    if (first !== undefined)
      throw new TenantryError(
        'STORE_REFUSED',
        {
          store: 'PostgreSQL',
          reason: `${plan.blocking.length} findings keep tables from being adopted, the first ${first.invariant} of ${first.object}`,
        },
        { cause: new Error(plan.blocking.map(inFull).join('\n')) },
      );
    await owner.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
    for (const statement of plan.applied) await owner.query(statement);
    for (const name of plan.tables) await recordTable(owner, schema, name, tables[name] as TableSpec);
    return { adopted: [...plan.tables] };
  });
}

/**
 * What adopting would do, and what is in its way. What it changes it rolls back; needs a cell that a worker has prepared once.
 * @param owner in no transaction
 */
export async function adoptionPlan(owner: ClientBase, manifest: Manifest): Promise<AdoptionPlan> {
  await owner.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  try {
    return await planOf(owner, manifest);
  } finally {
    await owner.query('ROLLBACK');
  }
}

async function planOf(owner: ClientBase, manifest: Manifest): Promise<AdoptionPlan> {
  // With this path PostgreSQL shows every name qualified.
  await owner.query('SET LOCAL search_path = pg_catalog');
  const { schema, tables } = manifest.postgres;
  const known = await knownTables(owner, schema);
  const wanted = Object.keys(tables).filter((name) => tables[name]?.adopt === true && !known.has(name));
  const { rows: present } = await owner.query<Present>(
    `SELECT c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object,
            pg_has_role(current_user, c.relowner, 'USAGE') AS ours
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')`,
    [schema, wanted],
  );
  if (present.length === 0) return { tables: [], blocking: [], applied: [] };
  const others = await openedBeside(owner, schema, Object.keys(tables));
  const all = await examined(owner, manifest);
  // A finding about an index names the index, not its table.
  const findings = all.filter(
    ({ object, kind }) =>
      kind === 'index' ||
      present.some((table) => object === table.object || object.startsWith(`${table.object}.`)),
  );
  const around = all.filter(
    (finding) =>
      !findings.includes(finding) &&
      (others.tables.includes(finding.object) ||
        (WAYS_AROUND.has(finding.kind) && finding.object.startsWith(`${others.schema}.`))),
  );
  const columns: Finding[] = [];
  for (const table of present) columns.push(...(await columnFindings(owner, manifest, table)));
  return {
    tables: present.map(({ name }) => name),
    blocking: [
      ...present.filter(({ ours }) => !ours).map(notOurs),
      ...columns,
      ...findings.filter(({ invariant }) => !PROTECTION.has(invariant)),
      ...around,
    ],
    applied: [
      usageOf(schema),
      ...findings.flatMap(({ invariant, mend }) =>
        PROTECTION.has(invariant) && mend !== undefined ? [mend] : [],
      ),
    ],
  };
}

/** For the log, where somebody reads what to mend. */
const inFull = ({ invariant, detail, mend }: Finding): string =>
  `${invariant}: ${detail}${mend === undefined ? '' : ` To mend it: ${mend}`}`;

const usageOf = (schema: string): string =>
  `GRANT USAGE ON SCHEMA ${escapeIdentifier(schema)} TO ${ROLES.runtime}, ${ROLES.purge};`;

/**
 * Adopting opens the schema to the product's roles, and with it whatever else in there PUBLIC may use. To see all of that,
 * the schema is opened in the transaction that examines.
 */
async function openedBeside(
  owner: ClientBase,
  schema: string,
  declared: readonly string[],
): Promise<{ readonly schema: string; readonly tables: readonly string[] }> {
  const { rows } = await owner.query<{ name: string; may_open: boolean; tables: string[] }>(
    `SELECT quote_ident(n.nspname) AS name, pg_has_role(current_user, n.nspowner, 'USAGE') AS may_open,
            ARRAY(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
                   WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'f') AND NOT c.relname = ANY ($2)
                     AND (c.relowner IN ${REACHING} OR EXISTS (
                       SELECT FROM aclexplode(c.relacl) a WHERE a.grantee IN ${REACHING}) OR EXISTS (
                       SELECT FROM pg_attribute t, aclexplode(t.attacl) a
                        WHERE t.attrelid = c.oid AND a.grantee IN ${REACHING}))) AS tables
       FROM pg_namespace n WHERE n.nspname = $1`,
    [schema, declared],
  );
  if (rows[0]?.may_open === true) await owner.query(usageOf(schema));
  return { schema: rows[0]?.name ?? schema, tables: rows[0]?.tables ?? [] };
}

async function examined(owner: ClientBase, manifest: Manifest): Promise<Finding[]> {
  const findings: Finding[] = [];
  const ask = async <R extends object>(sql: string, values: readonly unknown[] = []): Promise<R[]> =>
    (await owner.query<R>(sql, [...values])).rows;
  for (const check of CHECKS) findings.push(...(await check({ manifest, ask })));
  return findings;
}

interface Present {
  readonly name: string;
  readonly object: string;
  readonly ours: boolean;
}

const notOurs = ({ object }: Present): Finding => ({
  kind: 'table',
  object,
  invariant: 'owned-by-the-schema-owner',
  detail: `${object} belongs to another role than the one that makes and changes tables.`,
  mend: `ALTER TABLE ${object} OWNER TO ${ROLES.owner};`,
});

/** As PostgreSQL calls them. */
const TYPE_NAMES: Partial<Record<ColumnType, string>> = { timestamptz: 'timestamp with time zone' };

/** Each declared column is there with its type, and no other one is needed to insert a row. */
async function columnFindings(
  owner: ClientBase,
  manifest: Manifest,
  { name, object }: Present,
): Promise<Finding[]> {
  const declared = manifest.postgres.tables[name]?.columns ?? {};
  const { rows } = await owner.query<{ name: string; type: string; required: boolean; wanting: boolean }>(
    `SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, a.attnotnull AS required,
            a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' OR a.attidentity = 'a' AS wanting
       FROM pg_attribute a
      WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'tenant_id'`,
    [qualified(manifest, name)],
  );
  const finding = (column: string, detail: string, change?: string): Finding => ({
    kind: 'column',
    object: `${object}.${column}`,
    invariant: 'column-as-declared',
    detail,
    mend: change && `ALTER TABLE ${object} ${change};`,
  });
  return [
    ...Object.entries(declared).flatMap(([column, { type, nullable }]) => {
      const found = rows.find((row) => row.name === column);
      const id = escapeIdentifier(column);
      if (found === undefined)
        return finding(
          column,
          `${object} has no column ${column}.`,
          `ADD COLUMN ${id} ${type}${nullable ? '' : ' NOT NULL'}`,
        );
      if (found.type !== (TYPE_NAMES[type] ?? type))
        return finding(
          column,
          `${column} is ${found.type}, and is declared as ${type}.`,
          `ALTER COLUMN ${id} TYPE ${type} USING ${id}::${type}`,
        );
      if (found.required === nullable)
        return finding(
          column,
          `${column} is declared as ${nullable ? 'nullable' : 'not nullable'}, and is not.`,
          `ALTER COLUMN ${id} ${nullable ? 'DROP' : 'SET'} NOT NULL`,
        );
      return [];
    }),
    ...rows
      .filter((row) => row.wanting && !Object.hasOwn(declared, row.name))
      .map((row) => finding(row.name, `${row.name} has to have a value. Declare it, or give it a default.`)),
  ];
}
