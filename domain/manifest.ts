/**
 * The manifest: what a product stores for each tenant, declared once. Provisioning, row-level security, probes
 * and (later) encryption, retention and purge are derived from it.
 *
 * `tenant_id` is never declared: it is put first in every primary key, unique key, index and foreign key, so that
 * no key reaches across tenants.
 */
import type { z } from 'zod';
import { manifestProblems } from './manifest-problems.js';
import { type Manifest, type ManifestInput, manifestShape, type TableSpec } from './manifest-shape.js';

export {
  type CollectionSpec,
  COLUMN_TYPES,
  type ColumnType,
  FIELD_TYPES,
  type FieldType,
  type Manifest,
  type ManifestInput,
  type TableSpec,
} from './manifest-shape.js';

const manifestSchema = manifestShape.superRefine((manifest, context) => {
  for (const problem of manifestProblems(manifest)) context.addIssue({ code: 'custom', message: problem });
});

/**
 * Validates a manifest and fills in its defaults.
 * @throws TypeError with one line for each thing that is wrong.
 */
export function defineManifest(input: ManifestInput): Manifest {
  const result = manifestSchema.safeParse(input);
  const lines = [
    ...prototypeKeys(input).map((path) => `  ${path}: is not a name`),
    ...(result.error?.issues ?? []).map(
      (issue) => `  ${issue.path.join('.') || 'manifest'}: ${messageOf(issue)}`,
    ),
  ];
  if (!result.success || lines.length > 0)
    throw new TypeError(`The manifest is not valid:\n${lines.join('\n')}`);
  return result.data;
}

/** Of a name that is not valid, why it is not. */
const messageOf = (issue: z.core.$ZodIssue): string =>
  issue.code === 'invalid_key' ? issue.issues.map(({ message }) => message).join('; ') : issue.message;

/** Paths of keys named __proto__: zod leaves them out without a word, and with them what should be protected. */
function prototypeKeys(value: unknown, path: readonly string[] = []): string[] {
  // No deeper than a manifest is, so that an object which holds itself comes to an end.
  if (value === null || typeof value !== 'object' || path.length > 6) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '__proto__' ? [[...path, key].join('.')] : prototypeKeys(inner, [...path, key]),
  );
}

/** Tables in an order in which each comes after those that it references. */
export function tablesInOrder(manifest: Manifest): [name: string, table: TableSpec][] {
  const tables = manifest.postgres.tables;
  const placed = new Set<string>();
  const order: [string, TableSpec][] = [];
  const place = (name: string): void => {
    const spec = tables[name];
    if (spec === undefined || placed.has(name)) return;
    placed.add(name);
    for (const reference of spec.references) place(reference.table);
    order.push([name, spec]);
  };
  for (const name of Object.keys(tables)) place(name);
  return order;
}

/** Collections and indexes (the one on _id included) that a tenant adds to its MongoDB server. */
export function mongoFootprint(manifest: Manifest): number {
  return Object.values(manifest.mongo.collections).reduce(
    (sum, spec) => sum + 2 + spec.indexes.length + (spec.ttl === undefined ? 0 : 1),
    0,
  );
}
