/** Canonical JSON: what is hashed and compared must not depend on the order in which it was written. */
import fc from 'fast-check';
import { canonicalJson } from '../../domain/canonical-json.js';

const json = fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' });

/** The same value with the keys of every object in another order. */
function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, inner]) => [key, reordered(inner)]),
  );
}

test('it is JSON of the same value', () => {
  fc.assert(
    fc.property(json, (value) =>
      expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value))),
    ),
  );
});

test('the order of keys makes no difference, however deep they are', () => {
  fc.assert(fc.property(json, (value) => expect(canonicalJson(reordered(value))).toBe(canonicalJson(value))));
  expect(canonicalJson({ b: [{ d: 1, c: 2 }], a: null })).toBe('{"a":null,"b":[{"c":2,"d":1}]}');
});

test('values that differ have texts that differ', () => {
  fc.assert(
    fc.property(json, json, (a, b) => {
      const same =
        JSON.stringify(reordered(JSON.parse(canonicalJson(a)))) ===
        JSON.stringify(reordered(JSON.parse(canonicalJson(b))));
      expect(canonicalJson(a) === canonicalJson(b)).toBe(same);
    }),
  );
  expect(canonicalJson([1, 2])).not.toBe(canonicalJson([2, 1]));
  expect(canonicalJson({ a: '1' })).not.toBe(canonicalJson({ a: 1 }));
});

test('to write it again changes nothing', () => {
  fc.assert(
    fc.property(json, (value) =>
      expect(canonicalJson(JSON.parse(canonicalJson(value)))).toBe(canonicalJson(value)),
    ),
  );
});

test('an array keeps its order and its holes', () => {
  expect(canonicalJson(['b', 'a', undefined, 10, 9])).toBe('["b","a",null,10,9]');
});

test('what is undefined in an object counts as not there', () => {
  expect(canonicalJson({ a: undefined, b: 1 })).toBe(canonicalJson({ b: 1 }));
});

test('a date is its text', () => {
  const at = new Date('2026-01-02T03:04:05.678Z');
  expect(canonicalJson({ at, in: [at] })).toBe(
    '{"at":"2026-01-02T03:04:05.678Z","in":["2026-01-02T03:04:05.678Z"]}',
  );
});

test('keys are in the order of their code units, so no locale has a say', () => {
  const text = canonicalJson({ ä: 1, z: 2, Z: 3, a: 4, '\u{1f600}': 5, '\uffff': 6 });
  expect([...text.matchAll(/"([^"]+)":/g)].map(([, key]) => key)).toEqual([
    'Z',
    'a',
    'z',
    'ä',
    '\u{1f600}',
    '\uffff',
  ]);
});

test('a key named __proto__ is a key and touches no prototype', () => {
  const value: unknown = JSON.parse('{"b":1,"__proto__":{"polluted":true}}');
  expect(canonicalJson(value)).toBe('{"__proto__":{"polluted":true},"b":1}');
  expect({}).not.toHaveProperty('polluted');
});
