/**
 * Keys and references begin with the tenant. A unique key over all tenants answers "is there such a row anywhere?" to
 * whoever inserts one. A plain reference accepts another tenant's row as the parent.
 */
import { escapeIdentifier } from 'pg';
import type { Manifest } from '../../../domain/manifest.js';
import { qualified } from '../product-schema.js';
import { type Check, type Examination, type Finding, withParts } from './finding.js';

interface KeyRow {
  readonly table: string;
  readonly table_name: string;
  /** False: a part of a declared table. Keys of the whole are looked at there. */
  readonly declared: boolean;
  readonly index: string;
  readonly constraint: string | null;
  readonly primary: boolean;
  readonly sound: boolean;
  /** Names of columns; null for an expression. */
  readonly keys: readonly (string | null)[];
  readonly definition: string;
  readonly index_prefix: string;
  readonly dependents: readonly string[];
}

/** Of a relation `c` in a namespace `n`. */
const DECLARED = 'n.nspname = $1 AND c.relname = ANY ($2)';

export const checkKeys: Check = async ({ ask, manifest }) => {
  const tables = Object.keys(manifest.postgres.tables);
  const rows = await ask<KeyRow>(
    `SELECT format('%I.%I', n.nspname, t.relname) AS table, t.relname AS table_name,
            n.nspname = $1 AND t.relname = ANY ($2) AS declared,
            format('%I.%I', n.nspname, i.relname) AS index, quote_ident(k.conname) AS constraint,
            x.indisprimary AS primary,
            coalesce(first.attname = 'tenant_id', false)
              AND (NOT x.indisexclusion OR k.conexclop[1] = 'pg_catalog.=(uuid,uuid)'::regoperator) AS sound,
            ARRAY(SELECT a.attname::text FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS key(num, position)
                    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.num
                   WHERE key.position <= x.indnkeyatts ORDER BY key.position) AS keys,
            coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.oid)) AS definition,
            format(' ON %s%I.%I USING %I (', CASE i.relkind WHEN 'I' THEN 'ONLY ' END, n.nspname, t.relname, m.amname)
              AS index_prefix,
            ARRAY(SELECT format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I;', f.conrelid::regclass, f.conname)
                    FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.oid AND f.conparentid = 0
                   ORDER BY 1) AS dependents
       FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
       JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am m ON m.oid = i.relam
       LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
       LEFT JOIN pg_attribute first ON first.attrelid = t.oid AND first.attnum = x.indkey[0]
      WHERE t.oid IN ${withParts(DECLARED)} AND t.relkind IN ('r', 'p') AND NOT i.relispartition
        AND (x.indisunique OR x.indisexclusion)
      ORDER BY t.relname COLLATE "C", x.indisprimary DESC, i.relname COLLATE "C"`,
    [manifest.postgres.schema, tables],
  );
  const present = await presentTables({ ask, manifest });
  const withPrimary = new Set(rows.filter((row) => row.primary && row.declared).map((row) => row.table_name));
  return [
    ...present
      .filter(({ name }) => !withPrimary.has(name))
      .map(
        ({ name, object }): Finding => ({
          kind: 'constraint',
          object,
          invariant: 'primary-key-tenant-first',
          detail: `${object} has no primary key, on which references to it rest.`,
          mend: `ALTER TABLE ${object} ADD PRIMARY KEY (${listed(manifest.postgres.tables[name]?.primaryKey)});`,
        }),
      ),
    ...rows.filter(({ sound }) => !sound).map((row) => mended(manifest, row, rows)),
  ];
};

function mended(manifest: Manifest, row: KeyRow, all: readonly KeyRow[]): Finding {
  const { table, constraint, primary, keys, definition, dependents } = row;
  const tenantFirst = ['tenant_id', ...keys.filter((key) => key !== 'tenant_id')];
  const replaced = all.some(
    (other) => other.sound && other.table === table && other.keys.join('\n') === tenantFirst.join('\n'),
  );
  const anew = constraint === null ? indexAnew(row) : constraintAnew(manifest, row);
  const drop =
    constraint === null ? `DROP INDEX ${row.index};` : `ALTER TABLE ${table} DROP CONSTRAINT ${constraint}`;
  const statement =
    constraint === null
      ? [drop, ...(replaced ? [] : [anew])].join('\n')
      : `${drop}${replaced ? '' : `, ADD CONSTRAINT ${constraint} ${anew}`};`;
  return {
    kind: constraint === null ? 'index' : 'constraint',
    object: constraint === null ? row.index : `${table}.${constraint}`,
    invariant: primary
      ? 'primary-key-tenant-first'
      : definition.startsWith('EXCLUDE')
        ? 'exclusion-tenant-first'
        : 'unique-tenant-first',
    detail:
      `${constraint ?? row.index} of ${table} holds for all tenants together, ` +
      `so that a refusal tells one of another's row.${
        definition.startsWith('EXCLUDE USING gist') ? ' The mend needs the extension btree_gist.' : ''
      }`,
    // References to this key are not composite either: their own mends make them anew.
    mend: [...dependents, statement].join('\n'),
  };
}

function constraintAnew(manifest: Manifest, row: KeyRow): string {
  const { table_name, declared, primary, keys, definition } = row;
  const spec = declared ? manifest.postgres.tables[table_name] : undefined;
  if (primary) return `PRIMARY KEY (${listed(spec?.primaryKey ?? columnsOf(keys))})`;
  if (definition.startsWith('EXCLUDE')) return definition.replace('(', '(tenant_id WITH =, ');
  // PostgreSQL takes no column twice.
  if (keys.includes('tenant_id')) return `UNIQUE (${listed(columnsOf(keys))})`;
  return definition.replace('(', '(tenant_id, ');
}

const columnsOf = (keys: KeyRow['keys']): string[] =>
  keys.filter((key) => key !== null && key !== 'tenant_id') as string[];

/** The tenant goes in behind `index_prefix`, which ends where the columns begin. */
function indexAnew({ definition, index_prefix }: KeyRow): string {
  // Behind the index's own name, which may look like anything.
  const named = /^CREATE UNIQUE INDEX (?:"(?:[^"]|"")+"|[^ "]+)/.exec(definition)?.[0].length;
  const at = definition.indexOf(index_prefix, named);
  const behind = definition.slice(at + index_prefix.length);
  const target = index_prefix.replace(/^ ON ONLY /, ' ON ');
  return `${definition.slice(0, at)}${target}tenant_id, ${behind};`;
}

interface ReferenceRow {
  readonly child: string;
  readonly child_name: string;
  /** The child, or the table that it is a part of. */
  readonly child_declared: boolean;
  readonly parent: string;
  readonly parent_name: string;
  readonly parent_declared: boolean;
  readonly name: string;
  readonly validated: boolean;
  readonly columns: readonly string[];
  readonly targets: readonly string[];
  readonly action: string;
}

export const checkForeignKeys: Check = async (examination) => {
  const { manifest } = examination;
  const rows = await references(examination);
  const sound = rows.filter(isSound);
  const broken = rows.filter((row) => !isSound(row));
  /** Composite references that exist or that an earlier mend makes. */
  const made = new Set(sound.map(referenceKey));
  const findings = broken.map((row) => {
    const key = referenceKey(row);
    const anew = made.has(key) ? undefined : compositeOf(manifest, row);
    if (anew !== undefined) made.add(key);
    return {
      kind: 'constraint' as const,
      object: `${row.child}.${row.name}`,
      invariant:
        row.child_declared && row.parent_declared ? 'reference-composite' : 'reference-within-the-manifest',
      detail:
        row.child_declared && row.parent_declared
          ? `${row.child}.${row.name} refers to ${row.parent} without the tenant, or was never validated: a row may name another tenant's.`
          : `${row.child}.${row.name} refers to ${row.parent}, and one of the two is not the manifest's.`,
      mend: `ALTER TABLE ${row.child} DROP CONSTRAINT IF EXISTS ${row.name};${anew === undefined ? '' : `\n${anew}`}`,
    };
  });
  return [...findings, ...(await missingReferences(examination, made))];
};

const isSound = (row: ReferenceRow): boolean =>
  row.child_declared &&
  row.parent_declared &&
  row.validated &&
  row.columns.some((column, at) => column === 'tenant_id' && row.targets[at] === 'tenant_id');

const referenceKey = (row: Pick<ReferenceRow, 'child_name' | 'parent_name' | 'columns'>): string =>
  [row.child_name, row.parent_name, ...row.columns.filter((column) => column !== 'tenant_id')].join('\n');

const references = ({ ask, manifest }: Examination): Promise<ReferenceRow[]> =>
  ask(
    `SELECT c.oid::regclass::text AS child, c.relname AS child_name, p.oid::regclass::text AS parent,
            p.relname AS parent_name, quote_ident(f.conname) AS name, f.convalidated AS validated,
            c.oid IN ${withParts(DECLARED)} AS child_declared,
            p.oid IN ${withParts(DECLARED)} AS parent_declared,
            ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS key(num, position)
                    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.num ORDER BY key.position) AS columns,
            ARRAY(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS key(num, position)
                    JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = key.num ORDER BY key.position) AS targets,
            CASE f.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END AS action
       FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
       JOIN pg_class p ON p.oid = f.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE f.contype = 'f' AND f.conparentid = 0
        AND (c.oid IN ${withParts(DECLARED)} OR p.oid IN ${withParts(DECLARED)})
      ORDER BY cn.nspname COLLATE "C", c.relname COLLATE "C", f.conname COLLATE "C"`,
    [manifest.postgres.schema, Object.keys(manifest.postgres.tables)],
  );

/** The declared reference, or the same one with the tenant first; undefined if the parent has no key for it. */
function compositeOf(manifest: Manifest, row: ReferenceRow): string | undefined {
  if (!row.child_declared || !row.parent_declared) return undefined;
  const columns = row.columns.filter((column) => column !== 'tenant_id');
  const declared = manifest.postgres.tables[row.child_name]?.references.find(
    (reference) => reference.table === row.parent_name && reference.columns.join('\n') === columns.join('\n'),
  );
  const key = manifest.postgres.tables[row.parent_name]?.primaryKey ?? [];
  const targets = row.targets.filter((column) => column !== 'tenant_id');
  if (declared === undefined && targets.join('\n') !== key.join('\n')) return undefined;
  return (
    `ALTER TABLE ${row.child} ADD CONSTRAINT ${row.name} FOREIGN KEY (${listed(columns)}) ` +
    `REFERENCES ${row.parent} (${listed(key)}) ON DELETE ${declared?.onDelete ?? row.action};`
  );
}

async function missingReferences(examination: Examination, made: ReadonlySet<string>): Promise<Finding[]> {
  const { manifest } = examination;
  const present = await presentTables(examination);
  const objects = new Map(present.map(({ name, object }) => [name, object]));
  return present.flatMap(({ name, object }) =>
    (manifest.postgres.tables[name]?.references ?? [])
      .filter(
        ({ table, columns }) => !made.has(referenceKey({ child_name: name, parent_name: table, columns })),
      )
      .map(({ table, columns, onDelete }): Finding => {
        const key = manifest.postgres.tables[table]?.primaryKey ?? [];
        return {
          kind: 'constraint',
          object: objects.get(name) ?? object,
          invariant: 'declared-reference-present',
          detail: `The reference of ${object} to ${table} by ${columns.join(', ')} is missing.`,
          mend:
            `ALTER TABLE ${object} ADD FOREIGN KEY (${listed(columns)}) ` +
            `REFERENCES ${qualified(manifest, table)} (${listed(key)}) ON DELETE ${onDelete};`,
        };
      }),
  );
}

const presentTables = ({ ask, manifest }: Examination): Promise<{ name: string; object: string }[]> =>
  ask(
    `SELECT c.relname AS name, format('%I.%I', n.nspname, c.relname) AS object
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p') ORDER BY c.relname COLLATE "C"`,
    [manifest.postgres.schema, Object.keys(manifest.postgres.tables)],
  );

const listed = (columns: readonly string[] = []): string =>
  ['tenant_id', ...columns].map(escapeIdentifier).join(', ');
