/** A sealed secret opens where it belongs, under the key it was sealed with, unaltered; and nowhere else. */
import { createDecipheriv, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { newTenantId, tenantId } from '../../domain/ids.js';
import { STORES } from '../../domain/operation.js';
import { createSecretBox, newPassword, type SecretPlace } from '../../keys/sealed-secret.js';
import { anyText } from '../support/any-text.js';

const rootKey = randomBytes(32);
const box = createSecretBox(rootKey);
const here: SecretPlace = { tenantId: newTenantId(), store: 'mongo', version: 1 };

const secret = anyText();
const place: fc.Arbitrary<SecretPlace> = fc.record({
  tenantId: fc.uuid().map(tenantId),
  store: fc.constantFrom(...STORES),
  version: fc.integer({ min: 1, max: 100 }),
});

/** Format 1, nonce 12, tag 16. */
const OVERHEAD = 29;

test('what was sealed comes back, whatever it is and wherever it belongs', () => {
  fc.assert(
    fc.property(secret, place, (text, at) => {
      expect(box.open(box.seal(text, at), at)).toBe(text);
      expect(createSecretBox(Buffer.from(rootKey)).open(box.seal(text, { ...at }), at)).toBe(text);
    }),
  );
});

test('its layout is as documented: 1, nonce, tag and as many bytes as the secret has', () => {
  fc.assert(
    fc.property(secret, (text) => {
      const sealed = box.seal(text, here);
      expect([sealed[0], sealed.length]).toEqual([1, OVERHEAD + Buffer.byteLength(text)]);
      const decipher = createDecipheriv('aes-256-gcm', rootKey, sealed.subarray(1, 13))
        .setAAD(Buffer.from(`tenantry/credential/1/${here.tenantId}/mongo/1`))
        .setAuthTag(sealed.subarray(13, OVERHEAD));
      expect(Buffer.concat([decipher.update(sealed.subarray(OVERHEAD)), decipher.final()]).toString()).toBe(
        text,
      );
    }),
  );
});

test('one flipped bit anywhere, and it does not open', () => {
  const sealed = box.seal('a password', here);
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const altered = Buffer.from(sealed);
    altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(() => box.open(altered, here)).toThrow();
  }
});

test('cut short or made longer, it does not open', () => {
  const sealed = box.seal('a password', here);
  for (let length = 0; length < sealed.length; length++)
    expect(() => box.open(sealed.subarray(0, length), here)).toThrow();
  for (let length = 1; length < sealed.length; length++)
    expect(() => box.open(sealed.subarray(length), here)).toThrow();
  expect(() => box.open(Buffer.concat([sealed, Buffer.of(0)]), here)).toThrow();
});

test('at any other place, of another tenant, store or version, it does not open', () => {
  fc.assert(
    fc.property(secret, place, place, (text, at, other) => {
      for (const elsewhere of [
        { ...at, tenantId: other.tenantId },
        { ...at, store: other.store },
        { ...at, version: other.version },
        { ...at, version: at.version + 1 },
      ]) {
        const same = JSON.stringify(elsewhere) === JSON.stringify(at);
        if (same) expect(box.open(box.seal(text, at), elsewhere)).toBe(text);
        else expect(() => box.open(box.seal(text, at), elsewhere)).toThrow();
      }
    }),
  );
});

test('under any other root key it does not open', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
      expect(() => createSecretBox(Buffer.from(bytes)).open(box.seal('a password', here), here)).toThrow();
    }),
  );
});

test('random bytes do not open', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(() => box.open(Buffer.from([1, ...bytes]), here)).toThrow();
    }),
  );
});

test('the refusal does not show the secret, the key or what was sealed', () => {
  const sealed = box.seal('a password', here);
  let message = '';
  try {
    box.open(sealed, { ...here, version: 2 });
  } catch (error) {
    message = (error as Error).message;
  }
  expect(message).not.toBe('');
  for (const encoding of ['hex', 'base64'] as const)
    for (const bytes of [rootKey, sealed]) expect(message).not.toContain(bytes.toString(encoding));
  expect(message).not.toContain('a password');
});

test('a nonce is used once, so the same secret is never sealed the same way twice', () => {
  const all = Array.from({ length: 2_000 }, () => box.seal('the same', here));
  expect(new Set(all.map((sealed) => sealed.subarray(1, 13).toString('hex'))).size).toBe(all.length);
  expect(new Set(all.map((sealed) => sealed.subarray(OVERHEAD).toString('hex'))).size).toBe(all.length);
});

test.each([0, 16, 24, 31, 33, 64])('a root key of %d bytes is refused', (length) => {
  expect(() => createSecretBox(Buffer.alloc(length))).toThrow(new TypeError('the root key must be 32 bytes'));
});

test('a new password is 192 bits in characters that mean nothing in a URL or an ACL rule', () => {
  const passwords = Array.from({ length: 2_000 }, newPassword);
  expect(new Set(passwords).size).toBe(passwords.length);
  for (const password of passwords) {
    expect(password).toMatch(/^[A-Za-z0-9_-]{32}$/);
    expect(Buffer.from(password, 'base64url')).toHaveLength(24);
    expect(encodeURIComponent(password)).toBe(password);
  }
  // Every bit of the 192 is 0 in some and 1 in others.
  const bits = passwords.map((password) => Buffer.from(password, 'base64url'));
  for (let bit = 0; bit < 192; bit++) {
    const ones = bits.filter((bytes) => ((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1).length;
    expect([bit, ones > 800 && ones < 1_200]).toEqual([bit, true]);
  }
});
