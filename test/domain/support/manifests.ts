/** Random manifests that are valid by how they are made, and small ones to spoil. */
import fc from 'fast-check';
import { COLUMN_TYPES, defineManifest, FIELD_TYPES, type ManifestInput } from '../../../domain/manifest.js';

type Table = ManifestInput['postgres']['tables'][string];
type Collection = ManifestInput['mongo']['collections'][string];

const RESERVED = new Set(['tenant_id', 'tenantry', 'ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid']);
/** Among them the words of SQL and of JavaScript, which are names like others. */
const identifier = fc.oneof(
  fc.constantFrom('constructor', 'select', 'order', 'user', 'table', 'a', 'x'.repeat(48)),
  fc
    .stringMatching(/^[a-z][a-z0-9_]{0,12}$/)
    .filter((name) => !RESERVED.has(name) && !name.startsWith('pg_')),
);
const field = fc.oneof(
  fc.constantFrom('constructor', 'toString', 'hasOwnProperty', 'a', 'A', 'F'.repeat(64)),
  fc.stringMatching(/^[A-Za-z][A-Za-z0-9]{0,10}$/),
);
const distinct = (name: fc.Arbitrary<string>, minLength: number, maxLength: number) =>
  fc.uniqueArray(name, { minLength, maxLength });

/** A table that may reference those before it, each by columns of its own made for that. */
const table = (earlier: readonly [string, Table][]): fc.Arbitrary<Table> =>
  fc
    .record({
      columns: fc.dictionary(
        identifier.map((name) => `c_${name}`.slice(0, 48)),
        fc.record({ type: fc.constantFrom(...COLUMN_TYPES), nullable: fc.boolean(), personal: fc.boolean() }),
        { minKeys: 1, maxKeys: 5, noNullPrototype: true },
      ),
      parents: fc.subarray([...earlier]).map((all) => all.slice(-2)),
      onDelete: fc.constantFrom('cascade' as const, 'restrict' as const),
    })
    .chain(({ columns: declared, parents, onDelete }) => {
      const columns = { ...declared };
      const references = parents.map(([parent, spec], at) => ({
        table: parent,
        onDelete,
        columns: spec.primaryKey.map((key, position) => {
          const own = `r${at}_${position}`;
          columns[own] = { type: spec.columns[key]?.type ?? 'uuid', nullable: at === 1, personal: false };
          return own;
        }),
      }));
      const names = Object.keys(columns);
      const some = fc.shuffledSubarray(names, { minLength: 1 });
      return fc
        .record({
          primaryKey: some,
          unique: fc.array(some, { maxLength: 2 }),
          indexes: fc.array(some, { maxLength: 2 }),
        })
        .map((keys) => ({
          ...keys,
          references,
          columns: Object.fromEntries(
            Object.entries(columns).map(([name, spec]) => [
              name,
              keys.primaryKey.includes(name) ? { ...spec, nullable: false } : spec,
            ]),
          ),
        }));
    });

const tables: fc.Arbitrary<Record<string, Table>> = distinct(identifier, 0, 4).chain((names) =>
  names
    .reduce<fc.Arbitrary<[string, Table][]>>(
      (all, name) => all.chain((made) => table(made).map((spec) => [...made, [name, spec]])),
      fc.constant([]),
    )
    .chain((made) => fc.shuffledSubarray(made, { minLength: made.length }).map(Object.fromEntries)),
);

const collection: fc.Arbitrary<Collection> = fc
  .record({
    fields: distinct(field, 0, 5),
    types: fc.array(
      fc.record({ type: fc.constantFrom(...FIELD_TYPES), required: fc.boolean(), personal: fc.boolean() }),
      { minLength: 5, maxLength: 5 },
    ),
    ttl: fc.option(fc.integer({ min: 1, max: 2_147_483_647 }), { nil: undefined }),
  })
  .chain(({ fields, types, ttl }) => {
    const specs = Object.fromEntries(
      fields.map((name, i) => [name, types[i] ?? { type: 'string' as const }]),
    );
    // Two arrays in one index are refused, so an index has at most one.
    const [, ...arrays] = fields.filter((name) => specs[name]?.type === 'array');
    const keys = fields.filter((name) => !arrays.includes(name));
    const index = fc.record({
      fields: fc.shuffledSubarray(keys, { minLength: Math.min(1, keys.length) }),
      unique: fc.boolean(),
    });
    return fc
      .uniqueArray(index, {
        maxLength: keys.length === 0 ? 0 : 3,
        selector: (one) => one.fields.join(),
      })
      .map((indexes) => ({
        indexes,
        fields: { ...specs, ...(ttl === undefined ? {} : { expiresAt: { type: 'date' as const } }) },
        ...(ttl === undefined ? {} : { ttl: { field: 'expiresAt', seconds: ttl } }),
      }));
  });

export const validManifest: fc.Arbitrary<ManifestInput> = fc
  .record({
    tables,
    collections: distinct(
      fc.stringMatching(/^[a-z][a-z0-9_]{0,12}$/).filter((name) => name !== 'system'),
      0,
      3,
    ).chain((names) =>
      fc
        .array(collection, { minLength: names.length, maxLength: names.length })
        .map((specs) => Object.fromEntries(names.map((name, i) => [name, specs[i] as Collection]))),
    ),
  })
  .map((parts) => ({
    product: 'product',
    version: 1,
    plans: { team: { limits: {} } },
    postgres: { schema: 'app', tables: parts.tables },
    mongo: { collections: parts.collections },
    redis: { namespaces: { cache: {} } },
  }));

/** The least that is valid, with parts of it replaced. */
export const manifestWith = (parts: {
  readonly tables?: Record<string, unknown>;
  readonly collections?: Record<string, unknown>;
  readonly [rest: string]: unknown;
}): ManifestInput => {
  const { tables: ownTables = {}, collections = {}, ...rest } = parts;
  return {
    product: 'product',
    version: 1,
    plans: { team: { limits: {} } },
    postgres: { schema: 'app', tables: ownTables },
    mongo: { collections },
    redis: { namespaces: {} },
    ...rest,
  } as ManifestInput;
};

/** The lines of the refusal; none when it is taken. */
export function linesOf(input: unknown): string[] {
  try {
    defineManifest(input as ManifestInput);
    return [];
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const [title, ...lines] = error.message.split('\n');
    expect(title).toBe('The manifest is not valid:');
    expect(lines.length).toBeGreaterThan(0);
    return lines;
  }
}
