/**
 * What is wrong in a manifest between its parts, one line for each. Most of it a store would refuse as well, but only
 * when the first tenant comes; said here, it is said when the manifest is read.
 */
import type { CollectionSpec, Manifest, TableSpec } from './manifest-shape.js';

type Tables = Manifest['postgres']['tables'];

/** PostgreSQL has 32 columns in a key and 1600 in a table; one of each is tenant_id. */
const KEY_COLUMNS = 31;
const TABLE_COLUMNS = 1_599;
/** PostgreSQL gives them to every table. */
const SYSTEM_COLUMNS = ['ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid'];
/** MongoDB has 32 fields in an index and 64 indexes in a collection; one is that on _id. */
const INDEX_FIELDS = 32;
const INDEXES = 63;

export function manifestProblems(manifest: Manifest): string[] {
  const { tables } = manifest.postgres;
  return [
    ...Object.entries(tables).flatMap(([name, spec]) =>
      [...tableProblems(tables, name, spec)].map((problem) => `table ${name}: ${problem}`),
    ),
    ...Object.entries(manifest.mongo.collections).flatMap(([name, spec]) =>
      [...collectionProblems(spec)].map((problem) => `collection ${name}: ${problem}`),
    ),
    ...(Object.keys(manifest.plans).length === 0 ? ['at least one plan is needed'] : []),
  ];
}

function* tableProblems(tables: Tables, name: string, spec: TableSpec): Generator<string> {
  if (Object.keys(spec.columns).length > TABLE_COLUMNS) yield `has more than ${TABLE_COLUMNS} columns`;
  for (const column of SYSTEM_COLUMNS)
    if (own(spec.columns, column)) yield `"${column}" is a column of PostgreSQL's own`;
  // Tables and indexes share their names, and PostgreSQL names an index by its table.
  for (const other of Object.keys(tables))
    if (name === `${other}_pkey` || name.startsWith(`${other}_tenant_id_`))
      yield `"${name}" is what an index of "${other}" is called`;

  yield* keyProblems(spec, 'primaryKey', spec.primaryKey);
  for (const column of spec.primaryKey)
    if (own(spec.columns, column)?.nullable === true) yield `key column "${column}" is nullable`;
  for (const columns of spec.unique) yield* keyProblems(spec, 'unique', columns);
  for (const columns of spec.indexes) yield* keyProblems(spec, 'indexes', columns);
  for (const reference of spec.references) yield* referenceProblems(tables, spec, reference);
  if (referencesItself(tables, name)) yield 'its references form a circle';
}

function* keyProblems(spec: TableSpec, where: string, columns: readonly string[]): Generator<string> {
  for (const column of new Set(columns))
    if (own(spec.columns, column) === undefined) yield `${where} names "${column}", not a column`;
  for (const column of twice(columns)) yield `${where} names "${column}" twice`;
  if (columns.length > KEY_COLUMNS) yield `${where} has more than ${KEY_COLUMNS} columns`;
}

function* referenceProblems(
  tables: Tables,
  spec: TableSpec,
  { columns, table }: TableSpec['references'][number],
): Generator<string> {
  yield* keyProblems(spec, 'references', columns);
  const target = own(tables, table);
  if (target === undefined) yield `references "${table}", not a table`;
  else if (target.primaryKey.length !== columns.length)
    yield `its reference does not match the primary key of "${table}"`;
  else
    for (const [position, column] of columns.entries()) {
      const key = target.primaryKey[position] ?? '';
      const [ours, theirs] = [own(spec.columns, column)?.type, own(target.columns, key)?.type];
      if (ours !== undefined && theirs !== undefined && ours !== theirs)
        yield `"${column}" is ${ours}, and the key "${key}" of "${table}" is ${theirs}`;
    }
}

function* collectionProblems({ fields, indexes, ttl }: CollectionSpec): Generator<string> {
  const named = [...indexes.flatMap((index) => index.fields), ...(ttl ? [ttl.field] : [])];
  for (const field of new Set(named))
    if (field !== '_id' && own(fields, field) === undefined) yield `"${field}" is not a field`;

  for (const { fields: keys } of indexes) {
    if (keys.length === 1 && keys[0] === '_id') yield 'an index on _id alone is there already';
    for (const field of twice(keys)) yield `an index names "${field}" twice`;
    if (keys.length > INDEX_FIELDS) yield `an index has more than ${INDEX_FIELDS} fields`;
    const arrays = keys.filter((field) => own(fields, field)?.type === 'array');
    if (arrays.length > 1) yield `"${arrays.join('", "')}" are each an array, and an index takes one`;
  }
  for (const name of twice(indexes.map((index) => index.fields.join(', '))))
    yield `index ${name} is there twice`;
  if (indexes.length + (ttl ? 1 : 0) > INDEXES) yield `has more than ${INDEXES} indexes`;

  if (ttl === undefined) return;
  const field = own(fields, ttl.field);
  // An unknown one was named above; _id is known, and no date.
  if (field === undefined && ttl.field !== '_id') return;
  if (field?.type !== 'date') yield `the ttl field "${ttl.field}" is not a date`;
  // A document without the date would stay for ever.
  else if (!field.required) yield `the ttl field "${ttl.field}" is not required`;
  for (const { fields: keys } of indexes) {
    if (keys.length === 1 && keys[0] === ttl.field) yield `the ttl is an index on "${ttl.field}" already`;
    if (keys.join('_') === `ttl_${ttl.field}`)
      yield `an index would be called ttl_${ttl.field}, as the ttl is`;
  }
}

/** Whether following references from a table leads back to it. A circle could not be filled by any insert order. */
function referencesItself(tables: Tables, start: string): boolean {
  const parents = (name: string): string[] => own(tables, name)?.references.map(({ table }) => table) ?? [];
  const seen = new Set<string>();
  const queue = parents(start);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (next === start) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    queue.push(...parents(next));
  }
  return false;
}

const twice = (names: readonly string[]): Set<string> =>
  new Set(names.filter((name, position) => names.indexOf(name) !== position));

/** Of the record itself: "constructor" is a name like any other. */
const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined;
