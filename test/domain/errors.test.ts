/** The error table, and what of a failure may be kept and shown. */
import fc from 'fast-check';
import {
  describe as messageOf,
  type ErrorCode,
  ERRORS,
  isErrorCode,
  TenantryError,
  toRecordedError,
} from '../../domain/errors.js';

const CODES = Object.keys(ERRORS) as ErrorCode[];
const placeholders = (code: ErrorCode): string[] =>
  [...ERRORS[code].message.matchAll(/\{(.*?)\}/g)].map(([, name = '']) => name);

test.each(CODES)('%s says what happened in a sentence, with each parameter filled in', (code) => {
  const names = placeholders(code);
  for (const name of names) expect(name).toMatch(/^\w+$/);
  const text = messageOf(code, Object.fromEntries(names.map((name, i) => [name, `value-${i}`])));
  expect(text).toMatch(/^[A-Zv].*[.\d]$/s);
  expect(text).not.toMatch(/[{}]|undefined|\?/);
  for (const i of names.keys()) expect(text).toContain(`value-${i}`);
});

test.each(CODES)('%s has a status that fits whether it is retried', (code) => {
  const { status, retryable } = ERRORS[code];
  expect(status).toBeGreaterThanOrEqual(400);
  expect(status).toBeLessThan(600);
  // What the caller has to mend is not mended by trying again.
  if (retryable) expect(status).toBeGreaterThanOrEqual(500);
  expect(new TenantryError(code).retryable).toBe(retryable);
});

test('a breach of isolation is never retried', () => {
  for (const code of CODES.filter((name) => name.startsWith('ISOLATION')))
    expect([code, ERRORS[code].retryable]).toEqual([code, false]);
});

test('a parameter that is missing is a question mark, and one that is not asked for stays out', () => {
  expect(messageOf('SLUG_RESERVED')).toBe('The slug "?" is reserved.');
  expect(messageOf('SLUG_RESERVED', { slug: 'a', password: 'hush' })).toBe('The slug "a" is reserved.');
});

test('a parameter is put in as it is, whatever it looks like', () => {
  const value = fc.oneof(fc.string(), fc.constantFrom('$&', '$1', '{slug}', '$`', '\\'));
  fc.assert(
    fc.property(value, (slug) =>
      expect(messageOf('SLUG_RESERVED', { slug })).toBe(`The slug "${slug}" is reserved.`),
    ),
  );
});

test('an error of ours has its code, message, field and cause', () => {
  const cause = new Error('the driver');
  const error = new TenantryError('SLUG_RESERVED', { slug: 'www' }, { cause, field: 'tenants[3].slug' });
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({
    name: 'TenantryError',
    code: 'SLUG_RESERVED',
    params: { slug: 'www' },
    field: 'tenants[3].slug',
    message: 'The slug "www" is reserved.',
    cause,
  });
  expect('cause' in new TenantryError('INTERNAL')).toBe(false);
});

test('only names of the table are codes, and what every object has is none', () => {
  for (const code of CODES) expect(isErrorCode(code)).toBe(true);
  fc.assert(
    fc.property(
      fc.anything().filter((value) => !CODES.includes(value as ErrorCode)),
      (value) => expect(isErrorCode(value)).toBe(false),
    ),
  );
  for (const name of ['constructor', '__proto__', 'toString', 'internal', ''])
    expect(isErrorCode(name)).toBe(false);
});

test('of a failure of ours code and message are kept, of its cause nothing', () => {
  const error = new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' }, { cause: new Error('hush') });
  expect(toRecordedError(error)).toEqual({
    code: 'STORE_UNAVAILABLE',
    message: 'Redis cannot be reached, or takes no statements for now.',
  });
});

test('of a foreign failure nothing is kept at all', () => {
  const foreign = fc.oneof(
    fc.anything(),
    fc.string().map((text) => new Error(text)),
    // Even if it has the looks of one of ours.
    fc.record({ name: fc.constant('TenantryError'), code: fc.constantFrom(...CODES), message: fc.string() }),
    fc.string().map((message) => Object.assign(new Error(message), { code: 'INTERNAL', params: {} })),
  );
  fc.assert(
    fc.property(foreign, (error) =>
      expect(toRecordedError(error)).toEqual({ code: 'INTERNAL', message: ERRORS.INTERNAL.message }),
    ),
  );
});
