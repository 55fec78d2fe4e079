/** The keys of the tokens that say which tenant a statement is for. */
import { randomBytes } from 'node:crypto';
import { cellName } from '../../domain/ids.js';
import { contextKeySource, deriveContextKey } from '../../keys/context-key.js';

const root = randomBytes(32);
const [east, west] = [cellName('east'), cellName('west')];

it('is the same in every process that has the root key, and another for each cell, id and root key', () => {
  const key = deriveContextKey(root, east, 1);
  expect(deriveContextKey(Buffer.from(root), east, 1)).toEqual(key);
  expect(key.secret).toHaveLength(32);
  const others = [
    deriveContextKey(root, west, 1),
    deriveContextKey(root, east, 2),
    deriveContextKey(randomBytes(32), east, 1),
    { secret: root },
  ];
  expect(new Set([key, ...others].map(({ secret }) => secret.toString('hex'))).size).toBe(5);
});

it('is what HKDF-SHA-256 gives for the cell and the id', () => {
  // From another implementation: hmac(hmac(zeros, root), info | 0x01).
  expect(deriveContextKey(Buffer.alloc(32, 7), east, 3).secret.toString('hex')).toBe(
    'd0fb1847c786313af0f33976214a7d2fce9d572b3fb2256ac75246375950a6f9',
  );
});

it('follows the id that is current', () => {
  let id = 1;
  const source = contextKeySource(root, east, () => id);
  expect(source()).toEqual(deriveContextKey(root, east, 1));
  expect(source()).toBe(source());
  id = 2;
  expect(source()).toEqual(deriveContextKey(root, east, 2));
  expect(contextKeySource(root, east)()).toEqual(deriveContextKey(root, east, 1));
});

it('refuses a root key that is too short and an id that is none', () => {
  expect(() => deriveContextKey(Buffer.alloc(16), east, 1)).toThrow('32 bytes');
  for (const id of [0, -1, 1.5, Number.NaN])
    expect(() => deriveContextKey(root, east, id)).toThrow('1 or more');
});
