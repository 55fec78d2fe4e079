/** What is no manifest: each is refused with a line that names what is wrong, before a store would refuse it. */
import fc from 'fast-check';
import type { ManifestInput } from '../../domain/manifest.js';
import { linesOf, manifestWith } from './support/manifests.js';

const id = { id: { type: 'uuid' } };
const table = (rest: object = {}) => ({ columns: id, primaryKey: ['id'], ...rest });
const many = (count: number, type: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, { type }]));
const withTable = (rest: object) => manifestWith({ tables: { notes: table(rest) } });
const withCollection = (rest: object) => manifestWith({ collections: { logs: { fields: {}, ...rest } } });

const REFUSED: [what: string, manifest: unknown, line: RegExp][] = [
  ['nothing', undefined, /^ {2}manifest: .*object/],
  ['a list', [], /^ {2}manifest: .*object/],
  ['no plan', manifestWith({ plans: {} }), /at least one plan/],
  [
    'a plan with a negative limit',
    manifestWith({ plans: { a: { limits: { x: -1 } } } }),
    /plans\.a\.limits\.x/,
  ],
  ['a version that is no whole number', manifestWith({ version: 1.5 }), /^ {2}version: /],
  ['a product with capitals', manifestWith({ product: 'Desk' }), /^ {2}product: /],
  ['an unknown key', manifestWith({ colour: 'red' }), /manifest: .*colour/],
  ['an unknown key of a table', withTable({ primarykey: ['id'] }), /postgres\.tables\.notes: .*primarykey/],
  [
    'an unknown column type',
    withTable({ columns: { id: { type: 'varchar' } } }),
    /columns\.id\.type: .*uuid/,
  ],
  [
    'a nullable that is text',
    withTable({ columns: { id: { type: 'uuid', nullable: 'no' } } }),
    /columns\.id\.nullable/,
  ],
  ['an empty primary key', withTable({ primaryKey: [] }), /notes\.primaryKey/],

  // Names.
  [
    'the column tenant_id',
    withTable({ columns: { ...id, tenant_id: { type: 'uuid' } } }),
    /tenant_id: .*reserved/,
  ],
  ['a table named pg_class', manifestWith({ tables: { pg_class: table() } }), /pg_class: .*reserved/],
  ['a table named tenantry', manifestWith({ tables: { tenantry: table() } }), /tenantry: .*reserved/],
  ['a name with capitals', manifestWith({ tables: { Notes: table() } }), /Notes: lower-case/],
  ['a name of 49', manifestWith({ tables: { ['a'.repeat(49)]: table() } }), /a{49}: .*at most 48/],
  [
    'the schema public',
    manifestWith({ postgres: { schema: 'public', tables: {} } }),
    /postgres\.schema: .*reserved/,
  ],
  [
    'the schema of PostgreSQL itself',
    manifestWith({ postgres: { schema: 'information_schema', tables: {} } }),
    /schema: .*reserved/,
  ],
  ...['ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid'].map((name): [string, unknown, RegExp] => [
    `the system column ${name}`,
    withTable({ columns: { ...id, [name]: { type: 'uuid' } } }),
    new RegExp(`"${name}" is a column of PostgreSQL`),
  ]),
  [
    'a collection named system',
    manifestWith({ collections: { system: { fields: {} } } }),
    /system: .*reserved/,
  ],
  [
    'a namespace that the probe uses',
    manifestWith({ redis: { namespaces: { tenantry: {} } } }),
    /tenantry: .*reserved/,
  ],
  ['a field with a dot', withCollection({ fields: { 'a.b': { type: 'int' } } }), /fields\.a\.b/],
  [
    "a table with the name of another's key",
    manifestWith({ tables: { notes: table(), notes_pkey: table() } }),
    /notes_pkey.*"notes"/,
  ],
  [
    "a table with the name of another's index",
    manifestWith({ tables: { notes: table(), notes_tenant_id_a_idx: table() } }),
    /notes_tenant_id_a_idx.*"notes"/,
  ],

  // Keys and references.
  ['a key of an unknown column', withTable({ primaryKey: ['nr'] }), /notes: primaryKey names "nr"/],
  ['a unique key of an unknown column', withTable({ unique: [['nr']] }), /notes: unique names "nr"/],
  ['an index of an unknown column', withTable({ indexes: [['nr']] }), /notes: indexes names "nr"/],
  [
    'a key of what every object has',
    withTable({ primaryKey: ['constructor'] }),
    /primaryKey names "constructor"/,
  ],
  ['a nullable key', withTable({ columns: { id: { type: 'uuid', nullable: true } } }), /"id" is nullable/],
  ['a column twice in a key', withTable({ primaryKey: ['id', 'id'] }), /primaryKey names "id" twice/],
  ['a column twice in a unique key', withTable({ unique: [['id', 'id']] }), /unique names "id" twice/],
  ['a column twice in an index', withTable({ indexes: [['id', 'id']] }), /indexes names "id" twice/],
  [
    'a key that is too wide',
    withTable({ columns: many(32, 'uuid'), primaryKey: Object.keys(many(32, 'uuid')) }),
    /primaryKey has more than 31/,
  ],
  [
    'too many columns',
    withTable({ columns: { ...id, ...many(1_599, 'uuid') } }),
    /notes: .*more than 1599 columns/,
  ],
  [
    'a reference from an unknown column',
    withTable({ references: [{ columns: ['nr'], table: 'notes' }] }),
    /references names "nr"/,
  ],
  [
    'a reference to no table',
    withTable({ references: [{ columns: ['id'], table: 'gone' }] }),
    /references "gone", not a table/,
  ],
  [
    'a reference to what every object has',
    withTable({ references: [{ columns: ['id'], table: 'constructor' }] }),
    /references "constructor", not a table/,
  ],
  [
    'a reference to itself',
    withTable({ references: [{ columns: ['id'], table: 'notes' }] }),
    /notes: .*circle/,
  ],
  [
    'a reference of another width',
    manifestWith({
      tables: {
        people: { columns: { ...id, nr: { type: 'integer' } }, primaryKey: ['id', 'nr'] },
        notes: table({ references: [{ columns: ['id'], table: 'people' }] }),
      },
    }),
    /notes: .*primary key of "people"/,
  ],
  [
    'a reference of another type',
    manifestWith({
      tables: {
        people: { columns: { nr: { type: 'integer' } }, primaryKey: ['nr'] },
        notes: table({ references: [{ columns: ['id'], table: 'people' }] }),
      },
    }),
    /notes: "id" is uuid.*"nr" of "people" is integer/,
  ],
];

test.each(REFUSED)('%s is refused with its name', (_, manifest, line) => {
  expect(linesOf(manifest)).toEqual(expect.arrayContaining([expect.stringMatching(line)]));
});

test('a circle is refused by the name of each table in it and of no other', () => {
  const to = (parent: string) => table({ references: [{ columns: ['id'], table: parent }] });
  const lines = linesOf(
    manifestWith({ tables: { a: to('b'), b: to('c'), c: to('a'), d: to('a'), e: table() } }),
  );
  expect(lines.map((line) => /table (\w+): .*circle/.exec(line)?.[1])).toEqual(['a', 'b', 'c']);
});

test('everything that is wrong is said at once', () => {
  expect(linesOf(manifestWith({ version: 0, colour: 1, plans: { A: { limits: {} } } }))).toHaveLength(3);
  expect(linesOf(withTable({ primaryKey: ['a'], unique: [['b']], indexes: [['c']] }))).toHaveLength(3);
});

test.each([
  'postgres.tables',
  'postgres.tables.notes.columns',
  'mongo.collections',
  'redis.namespaces',
  'plans',
])('a __proto__ among %s is refused, not left out', (path) => {
  const manifest = JSON.parse(JSON.stringify(withTable({}))) as ManifestInput;
  const holder = path
    .split('.')
    .reduce<Record<string, unknown>>((inner, key) => inner[key] as Record<string, unknown>, manifest);
  Object.defineProperty(holder, '__proto__', { value: { limits: {} }, enumerable: true });
  expect(linesOf(manifest)).toEqual(expect.arrayContaining([expect.stringContaining(`${path}.__proto__`)]));
});

test('whatever is given, it is taken or refused with lines, and nothing else is thrown', () => {
  const anything = fc.oneof(
    fc.anything(),
    fc.record({ tables: fc.anything(), collections: fc.anything() }).map(manifestWith as () => unknown),
    fc
      .dictionary(fc.constantFrom('a', 'constructor', '__proto__', 'toString'), fc.anything())
      .map((columns) => withTable({ columns })),
  );
  fc.assert(fc.property(anything, (input) => void linesOf(input)));
});
