import fc from 'fast-check';

const SURROGATES = { first: 0xd800, count: 0x800 };

/** Any code point but half a pair. As fast-check's `binary`, which takes a second to list them all. */
const codePoint = fc
  .integer({ min: 0, max: 0x10ffff - SURROGATES.count })
  .map((n) => String.fromCodePoint(n < SURROGATES.first ? n : n + SURROGATES.count));

export const anyText = (length: fc.StringConstraints = {}): fc.Arbitrary<string> =>
  fc.string({ ...length, unit: codePoint });
