/** Identifiers: what is one, and the short form that names a tenant's database. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import {
  CELL_NAME,
  cellName,
  isUuid,
  newTenantId,
  operationId,
  shortId,
  tenantId,
} from '../../domain/ids.js';
import { batchWorkflowId, lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import { anyText } from '../support/any-text.js';

const id = fc.uuid().map(tenantId);
const hex = (uuid: string): string => uuid.replaceAll('-', '');

/** Crockford's base 32 by another way: the bits as text, cut into fives. */
function base32(uuid: string): string {
  const bits = Array.from(hex(uuid))
    .map((digit) => Number.parseInt(digit, 16).toString(2).padStart(4, '0'))
    .join('');
  const fives = bits.padStart(130, '0').match(/.{5}/g) ?? [];
  return fives.map((five) => '0123456789abcdefghjkmnpqrstvwxyz'[Number.parseInt(five, 2)]).join('');
}

test('a short id is all bits of the id in base 32', () => {
  fc.assert(fc.property(id, (one) => expect(shortId(one)).toBe(base32(one))));
  expect(shortId(tenantId('00000000-0000-4000-8000-000000000000'))).toBe('00000000008008000000000000');
  expect(shortId(tenantId('ffffffff-ffff-4fff-bfff-ffffffffffff'))).toBe('7zzzzzzzzz9zzvzzzzzzzzzzzz');
});

test('a short id is 26 of the alphabet that has no i, l, o or u, and all in lower case', () => {
  fc.assert(fc.property(id, (one) => expect(shortId(one)).toMatch(/^[0-7][0-9a-hjkmnp-tv-z]{25}$/)));
});

test('two ids that differ in one bit have short ids that differ', () => {
  const bit = fc.integer({ min: 0, max: 127 });
  fc.assert(
    fc.property(id, bit, (one, at) => {
      const other = (BigInt(`0x${hex(one)}`) ^ (1n << BigInt(at))).toString(16).padStart(32, '0');
      // Not through tenantId: a flipped bit may change the version, and shortId must not care.
      expect(shortId(other as typeof one)).not.toBe(shortId(one));
    }),
  );
});

test('a short id sorts as its id does', () => {
  const sign = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  fc.assert(fc.property(id, id, (a, b) => expect(sign(shortId(a), shortId(b))).toBe(sign(a, b))));
});

test('a uuid of each version is an id and comes back as it is', () => {
  fc.assert(
    fc.property(fc.uuid(), (text) => {
      expect(isUuid(text)).toBe(true);
      expect([tenantId(text), operationId(text)]).toEqual([text, text]);
    }),
  );
  expect(isUuid(newTenantId())).toBe(true);
});

test.each([
  ['nothing', ''],
  ['the nil uuid', '00000000-0000-0000-0000-000000000000'],
  ['the max uuid', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
  ['a variant that is not of the RFC', '00000000-0000-4000-c000-000000000000'],
  ['version 0', '00000000-0000-0000-8000-000000000000'],
  ['version 9', '00000000-0000-9000-8000-000000000000'],
  ['capitals, which would be a second name of one tenant', randomUUID().toUpperCase().replace(/^./, 'A')],
  ['braces', `{${randomUUID()}}`],
  ['a line behind it', `${randomUUID()}\n`],
  ['a space before it', ` ${randomUUID()}`],
  ['no hyphens', hex(randomUUID())],
  ['a digit of another script', randomUUID().replace(/^./, '\u0661')],
])('%s is not an id, and the refusal does not repeat it', (_, text) => {
  expect(isUuid(text)).toBe(false);
  expect(() => tenantId(text)).toThrow(new TypeError('not a tenant id'));
  expect(() => operationId(text)).toThrow(/^not an? operation id$/);
});

test('a uuid with one character changed to what is no hex digit is refused', () => {
  const spoilt = fc
    .tuple(fc.uuid(), fc.nat(35), anyText({ minLength: 0, maxLength: 2 }))
    .filter(([, , piece]) => !/^[0-9a-f-]$/.test(piece))
    .map(([text, at, piece]) => text.slice(0, at) + piece + text.slice(at + 1));
  fc.assert(fc.property(spoilt, (text) => expect(isUuid(text)).toBe(false)));
});

test('a cell is named by 1 to 31 of a-z, 0-9 and -, a letter first', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z][a-z0-9-]{0,30}$/), (name) => expect(cellName(name)).toBe(name)),
  );
  for (const name of ['', '1', '-a', 'A', 'a_b', 'a'.repeat(32), 'a\n', 'a/b', 'é'])
    expect([name, CELL_NAME.test(name)]).toEqual([name, false]);
  expect(() => cellName('a/b')).toThrow('not a cell name');
});

test('all lifecycle operations of a tenant have one workflow id, and it is of nobody else', () => {
  const operation = fc.uuid().map(operationId);
  fc.assert(
    fc.property(id, id, operation, (a, b, op) => {
      expect(lifecycleWorkflowId(a)).toBe(`tenant/${a}`);
      expect(lifecycleWorkflowId(a) === lifecycleWorkflowId(b)).toBe(a === b);
      expect(batchWorkflowId(op)).not.toBe(lifecycleWorkflowId(a));
      expect(batchWorkflowId(op)).toContain(op);
    }),
  );
});
