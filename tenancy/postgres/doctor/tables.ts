/** The tables of the product's schema: those of the manifest as isolation needs them, any other out of reach. */
import { escapeLiteral } from 'pg';
import { type Manifest, tablesInOrder } from '../../../domain/manifest.js';
import { createTable, qualified, tableHash } from '../product-schema.js';
import {
  asOwner,
  type Check,
  type Examination,
  type Finding,
  type FindingKind,
  RELATION_GRANTEES,
} from './finding.js';

interface TableRow {
  readonly name: string;
  readonly object: string;
  readonly kind: FindingKind;
  readonly is_table: boolean;
  readonly parent: string | null;
  readonly enabled: boolean;
  readonly forced: boolean;
  readonly grantees: readonly string[];
  readonly tenant_type: string | null;
  readonly tenant_not_null: boolean | null;
  readonly policies: readonly string[];
}

export const checkTables: Check = async (examination) => {
  const { manifest } = examination;
  const relations = await relationsOf(examination);
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  const declared = tablesInOrder(manifest).map(([name]) => name);
  return [
    ...declared.flatMap((name) => missing(manifest, name, byName.get(name))),
    ...relations.flatMap((table) =>
      Object.hasOwn(manifest.postgres.tables, table.name)
        ? table.is_table
          ? [...rowSecurity(table), ...tenantColumn(table)]
          : []
        : outOfReach(table),
    ),
    ...(await rowSecurityOfGate(examination)),
    ...(await sharedCounters(examination)),
  ];
};

/** The relations of the product's schema that hold rows, or that have the name of a declared table. */
const relationsOf = ({ ask, manifest }: Examination): Promise<TableRow[]> =>
  ask(
    `SELECT c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object,
            CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
              WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind,
            c.relkind IN ('r', 'p') AS is_table, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
            (SELECT min(i.inhparent::regclass::text) FROM pg_inherits i WHERE i.inhrelid = c.oid) AS parent,
            ${RELATION_GRANTEES} AS grantees,
            format_type(t.atttypid, t.atttypmod) AS tenant_type, t.attnotnull AS tenant_not_null,
            ARRAY(SELECT format('DROP POLICY %I ON %I.%I;', p.polname, n.nspname, c.relname) FROM pg_policy p
                   WHERE p.polrelid = c.oid ORDER BY p.polname) AS policies
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped
      WHERE n.nspname = $1
        AND (c.relkind IN ('r', 'p', 'f') OR c.relname = ANY ($2) AND c.relkind IN ('v', 'm', 'S'))
      ORDER BY c.relname COLLATE "C"`,
    [manifest.postgres.schema, Object.keys(manifest.postgres.tables)],
  );

function missing(manifest: Manifest, name: string, found: TableRow | undefined): Finding[] {
  const table = manifest.postgres.tables[name];
  if (table === undefined || found?.is_table === true) return [];
  const recorded = [manifest.postgres.schema, name, tableHash(table)].map(escapeLiteral).join(', ');
  return [
    {
      kind: found?.kind ?? 'table',
      object: qualified(manifest, name),
      invariant: 'declared-table-present',
      detail:
        found === undefined
          ? `The manifest has the table ${name}, and the schema has not.`
          : `A ${found.kind} has the name of the table ${name}. No SQL is proposed: whether to rename it or to drop it, somebody has to say.`,
      mend:
        found === undefined
          ? asOwner(`${createTable(manifest, name, table)}
    INSERT INTO tenantry.product_table (schema_name, table_name, spec_hash) VALUES (${recorded})
      ON CONFLICT (schema_name, table_name) DO UPDATE SET spec_hash = excluded.spec_hash;`)
          : undefined,
    },
  ];
}

const rowSecurity = ({ object, enabled, forced }: TableRow): Finding[] => [
  ...(enabled
    ? []
    : [
        finding(
          'row-security-enabled',
          object,
          `Row-level security of ${object} is off: every tenant sees all rows.`,
          `ALTER TABLE ${object} ENABLE ROW LEVEL SECURITY;`,
        ),
      ]),
  ...(forced
    ? []
    : [
        finding(
          'row-security-forced',
          object,
          `Row-level security of ${object} is not forced: it does not bind the owner, nor what runs as the owner.`,
          `ALTER TABLE ${object} FORCE ROW LEVEL SECURITY;`,
        ),
      ]),
];

function tenantColumn({ object, tenant_type, tenant_not_null, policies }: TableRow): Finding[] {
  const column = `${object}.tenant_id`;
  const broken = (invariant: string, detail: string, mend: string): Finding[] => [
    { kind: 'column', object: column, invariant, detail, mend },
  ];
  if (tenant_type === null)
    return broken(
      'tenant-column-present',
      `${object} has no tenant_id. Where it holds rows, somebody has to say whose each is first: the mend then refuses.`,
      `ALTER TABLE ${object} ADD COLUMN tenant_id uuid NOT NULL;`,
    );
  if (tenant_type !== 'uuid')
    return broken(
      'tenant-column-uuid',
      `${column} is ${tenant_type}, and the context is a uuid. Policies go by it, so they are dropped and made anew.`,
      // Until the next examination proposes the policies again, nobody can read the table.
      `${policies.join('\n')}\nALTER TABLE ${object} ALTER COLUMN tenant_id TYPE uuid USING tenant_id::text::uuid;`,
    );
  if (tenant_not_null !== true)
    return broken(
      'tenant-column-not-null',
      `${column} may be null: such a row is no tenant's. The mend refuses while there are any.`,
      `ALTER TABLE ${object} ALTER COLUMN tenant_id SET NOT NULL;`,
    );
  return [];
}

/** An undeclared table, a partition or a child. Reached by its own name, a part is not bound by its parent's policies. */
function outOfReach({ object, kind, is_table, parent, enabled, forced, grantees }: TableRow): Finding[] {
  const locked = !is_table || (enabled && forced);
  if (locked && grantees.length === 0) return [];
  const revoke = grantees.length > 0 ? [`REVOKE ALL ON ${object} FROM ${grantees.join(', ')} CASCADE;`] : [];
  const lock = is_table ? [`ALTER TABLE ${object} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;`] : [];
  const what =
    parent === null ? `The ${kind} ${object} is not in the manifest` : `${object} is a part of ${parent}`;
  return [
    {
      kind,
      object,
      invariant: parent === null ? 'undeclared-table-locked' : 'partition-locked',
      detail: `${what} and no policy of ours protects it${
        grantees.length > 0 ? `; ${grantees.join(', ')} may use it` : ''
      }. The mend puts it out of reach; to use it, ${parent === null ? 'declare it' : `go through ${parent}`}.`,
      mend: [...revoke, ...lock].join('\n'),
    },
  ];
}

async function rowSecurityOfGate({ ask }: Examination): Promise<Finding[]> {
  const rows = await ask<TableRow>(
    `SELECT 'tenantry.gate' AS object, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = 'tenantry' AND c.relname = 'gate'`,
  );
  return rows.flatMap(rowSecurity);
}

/** A counter for all tenants tells each how much the others do, even if nobody may read the sequence. */
async function sharedCounters({ ask, manifest }: Examination): Promise<Finding[]> {
  const rows = await ask<{ table: string; column: string; identity: boolean }>(
    `SELECT format('%I.%I', n.nspname, c.relname) AS table, quote_ident(a.attname) AS column,
            a.attidentity <> '' AS identity
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = ANY ($2) AND NOT a.attisdropped
        AND (a.attidentity <> '' OR EXISTS (
          SELECT FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
            JOIN pg_class s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind = 'S'
           WHERE f.adrelid = c.oid AND f.adnum = a.attnum))
      ORDER BY 1, 2`,
    [manifest.postgres.schema, Object.keys(manifest.postgres.tables)],
  );
  return rows.map(({ table, column, identity }) => ({
    kind: 'column',
    object: `${table}.${column}`,
    invariant: 'no-shared-counter',
    detail: `${table}.${column} counts for all tenants at once, so that its values tell each what the others do.`,
    mend: `ALTER TABLE ${table} ALTER COLUMN ${column} DROP ${identity ? 'IDENTITY' : 'DEFAULT'};`,
  }));
}

const finding = (invariant: string, object: string, detail: string, mend: string): Finding => ({
  kind: 'table',
  object,
  invariant,
  detail,
  mend,
});
