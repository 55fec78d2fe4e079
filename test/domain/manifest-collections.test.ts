/** Collections that MongoDB would refuse, or would take and then not do what they say: refused when they are read. */
import { linesOf, manifestWith } from './support/manifests.js';

const withCollection = (rest: object) => manifestWith({ collections: { logs: { fields: {}, ...rest } } });
const at = { at: { type: 'date' } };
const many = (count: number, type: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, { type }]));

const REFUSED: [what: string, manifest: unknown, line: RegExp][] = [
  ['an unknown field type', withCollection({ fields: { a: { type: 'text' } } }), /fields\.a\.type/],
  [
    'an index of an unknown field',
    withCollection({ indexes: [{ fields: ['nr'] }] }),
    /logs: "nr" is not a field/,
  ],
  [
    'an index of what every object has',
    withCollection({ indexes: [{ fields: ['toString'] }] }),
    /logs: "toString" is not a field/,
  ],
  ['an index on _id alone', withCollection({ indexes: [{ fields: ['_id'] }] }), /logs: .*_id/],
  [
    'an index with a field twice',
    withCollection({ fields: at, indexes: [{ fields: ['at', 'at'] }] }),
    /logs: .*"at" twice/,
  ],
  [
    'an index twice',
    withCollection({ fields: at, indexes: [{ fields: ['at'] }, { fields: ['at'], unique: true }] }),
    /logs: .*index at.* twice/,
  ],
  [
    'an index over two arrays',
    withCollection({
      fields: { a: { type: 'array' }, b: { type: 'array' } },
      indexes: [{ fields: ['a', 'b'] }],
    }),
    /logs: .*"a", "b".*array/,
  ],
  [
    'an index that is too wide',
    withCollection({ fields: many(33, 'int'), indexes: [{ fields: Object.keys(many(33, 'int')) }] }),
    /logs: .*more than 32/,
  ],
  [
    'too many indexes',
    withCollection({
      fields: many(64, 'int'),
      indexes: Object.keys(many(64, 'int')).map((f) => ({ fields: [f] })),
    }),
    /logs: .*more than 63/,
  ],
  ['an unknown ttl field', withCollection({ ttl: { field: 'at', seconds: 1 } }), /logs: "at" is not a field/],
  [
    'a ttl on what is no date',
    withCollection({ fields: { at: { type: 'int' } }, ttl: { field: 'at', seconds: 1 } }),
    /"at" is not a date/,
  ],
  ['a ttl on _id', withCollection({ ttl: { field: '_id', seconds: 1 } }), /"_id" is not a date/],
  [
    'a ttl on what may be absent',
    withCollection({ fields: { at: { type: 'date', required: false } }, ttl: { field: 'at', seconds: 1 } }),
    /"at" is not required/,
  ],
  [
    'a ttl beside an index of its field',
    withCollection({ fields: at, indexes: [{ fields: ['at'] }], ttl: { field: 'at', seconds: 1 } }),
    /logs: .*ttl.*"at"/,
  ],
  [
    'an index with the name of the ttl',
    withCollection({
      fields: { ...at, ttl: { type: 'int' } },
      indexes: [{ fields: ['ttl', 'at'] }],
      ttl: { field: 'at', seconds: 1 },
    }),
    /logs: .*ttl_at/,
  ],
  ['a ttl of no time', withCollection({ fields: at, ttl: { field: 'at', seconds: 0 } }), /ttl\.seconds/],
  [
    'a ttl longer than MongoDB counts',
    withCollection({ fields: at, ttl: { field: 'at', seconds: 2 ** 31 } }),
    /ttl\.seconds/,
  ],
];

test.each(REFUSED)('%s is refused with its name', (_, manifest, line) => {
  expect(linesOf(manifest)).toEqual([expect.stringMatching(line)]);
});
