/** What a request may say: names in any script but nothing that hides or turns text, slugs that are host names. */
import fc from 'fast-check';
import {
  BATCH_LIMIT,
  createBatchBody,
  createTenantBody,
  idParams,
  listTenantsQuery,
  RESERVED_SLUGS,
} from '../../domain/requests.js';
import { anyText } from '../support/any-text.js';

const body = (parts: object) => ({ slug: 'acme', name: 'Acme', plan: 'team', ...parts });
const nameOf = (name: unknown): string | undefined => createTenantBody.safeParse(body({ name })).data?.name;
const takesSlug = (slug: unknown): boolean => createTenantBody.safeParse(body({ slug })).success;

test.each([
  'Acme',
  'Å',
  '株式会社アクメ',
  'شركة أكمي',
  'אקמה בע״מ',
  'बनारस',
  'ไทย',
  '👩\u200d👩\u200d👧 Co',
  'می\u200cخواهم',
  'Ваня & Co',
  'O’Neill',
  '1',
  '\u{20000}',
])('the name %s is taken as it is', (name) => {
  expect(nameOf(name)).toBe(name.normalize('NFC'));
});

test.each([
  ['a NUL', '\0'],
  ['a line feed', '\n'],
  ['an escape', '\u001b'],
  ['DEL', '\u007f'],
  ['a C1 control', '\u0085'],
  ['a left-to-right mark', '\u200e'],
  ['a right-to-left override', '\u202e'],
  ['an isolate', '\u2067'],
  ['a zero-width space', '\u200b'],
  ['a word joiner', '\u2060'],
  ['a soft hyphen', '\u00ad'],
  ['a tag character', '\u{e0041}'],
  ['a line separator', '\u2028'],
  ['a paragraph separator', '\u2029'],
  ['a lone high surrogate', '\ud83d'],
  ['a lone low surrogate', '\ude00'],
  ['a private character', '\ue000'],
  ['an unassigned character', '\u0378'],
  ['a noncharacter', '\uffff'],
])('a name with %s in it is refused', (_, character) => {
  expect(nameOf(`Ac${character}me`)).toBeUndefined();
});

test.each(['', ' ', '\u3000', '\u00a0\t', '\u200d', '\u200c\u200d', '\u3164', '\u115f', '\u2003\ufe0f'])(
  'a name that shows nothing (%j) is refused',
  (name) => {
    expect(nameOf(name)).toBeUndefined();
  },
);

test('a name that is taken is NFC, without space around it, visible, and taken again as it is', () => {
  fc.assert(
    fc.property(
      fc.oneof(anyText({ maxLength: 230 }), fc.string({ unit: 'grapheme', maxLength: 230 })),
      (text) => {
        const name = nameOf(text);
        if (name === undefined) return;
        expect([name.normalize('NFC'), name.trim(), nameOf(name)]).toEqual([name, name, name]);
        expect(Array.from(name).length).toBeLessThanOrEqual(200);
        expect(name).not.toMatch(/\p{Cc}|\p{Bidi_Control}/u);
      },
    ),
  );
});

test('200 characters are enough and 201 are too many, whatever they weigh', () => {
  for (const character of ['a', 'é', '界', '😀']) {
    expect(nameOf(character.repeat(200))).toHaveLength(character.length * 200);
    expect(nameOf(character.repeat(201))).toBeUndefined();
  }
  // Counted as they are kept: composed.
  expect(nameOf('e\u0301'.repeat(200))).toBe('é'.repeat(200));
});

test('a slug is a label of a host name: 3 to 63 of a-z, 0-9 and -, no - at an end', () => {
  const label = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
  const nearly = fc.string({
    unit: fc.constantFrom('a', 'z', '0', '9', '-', 'A', '.', '_', 'é', '\n'),
    maxLength: 66,
  });
  const clean = fc.string({ unit: fc.constantFrom('a', '0', '-'), maxLength: 66 });
  fc.assert(
    fc.property(fc.oneof(nearly, clean), (slug) => {
      const plain = slug.slice(2, 4) !== '--';
      expect(takesSlug(slug)).toBe(slug.length >= 3 && slug.length <= 63 && label.test(slug) && plain);
    }),
  );
  for (const length of [2, 3, 63, 64])
    expect([length, takesSlug('a'.repeat(length))]).toEqual([length, length > 2 && length < 64]);
});

test('a slug is no name in another script in disguise', () => {
  for (const slug of ['xn--mnchen-3ya', 'ab--c']) expect([slug, takesSlug(slug)]).toEqual([slug, false]);
  expect(takesSlug('a-b--c')).toBe(true);
});

test('a slug does not look like an id, which would name another tenant', () => {
  const like = fc.oneof(fc.uuid(), fc.constant('00000000-0000-0000-0000-000000000000'));
  fc.assert(
    fc.property(like, (id) => {
      expect([takesSlug(id), takesSlug(`${id}0`), takesSlug(`0${id}`)]).toEqual([false, true, true]);
    }),
  );
  expect(takesSlug('b7e2a8f01c3d4e5f8a9b0c1d2e3f4a5b')).toBe(true);
});

test('every reserved slug could be asked for, so it is worth reserving', () => {
  for (const slug of RESERVED_SLUGS) expect([slug, takesSlug(slug)]).toEqual([slug, true]);
});

test('a body with a part missing, of another type, or unknown is refused at that part', () => {
  const pathsOf = (value: unknown) =>
    createTenantBody.safeParse(value).error?.issues.map((issue) => issue.path.join('.'));
  for (const part of ['slug', 'name', 'plan']) {
    const { [part]: _, ...rest } = body({}) as Record<string, unknown>;
    expect(pathsOf(rest)).toEqual([part]);
    expect(pathsOf(body({ [part]: 1 }))).toEqual([part]);
  }
  expect(pathsOf(body({ cell: 'A' }))).toEqual(['cell']);
  expect(createTenantBody.safeParse(body({ state: 'active' })).success).toBe(false);
});

test('a batch has 1 to 1000 tenants', () => {
  for (const [count, taken] of [
    [0, false],
    [1, true],
    [BATCH_LIMIT, true],
    [BATCH_LIMIT + 1, false],
  ] as const)
    expect([
      count,
      createBatchBody.safeParse({ tenants: Array.from({ length: count }, () => body({})) }).success,
    ]).toEqual([count, taken]);
  expect(BATCH_LIMIT).toBe(1_000);
});

test('a page has 1 to 200, 50 by default', () => {
  expect(listTenantsQuery.parse({})).toEqual({ limit: 50 });
  for (const [limit, taken] of [
    ['0', false],
    ['1', true],
    ['200', true],
    ['201', false],
    ['1.5', false],
    ['x', false],
  ] as const)
    expect([limit, listTenantsQuery.safeParse({ limit }).success]).toEqual([limit, taken]);
  expect(listTenantsQuery.safeParse({ state: 'gone' }).success).toBe(false);
});

test('an address takes a uuid for an id and nothing else', () => {
  fc.assert(fc.property(fc.uuid(), (id) => expect(idParams.parse({ id })).toEqual({ id })));
  fc.assert(fc.property(fc.string(), (id) => expect(idParams.safeParse({ id }).success).toBe(false)));
});
