/** Which errors are the operating system's, by what is worth another try. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { runInNewContext } from 'node:vm';
import { TenantryError } from '../../domain/errors.js';
import { isSystemError } from '../../domain/system-error.js';

const caught = async (work: () => unknown): Promise<unknown> => {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
};

test('what the system itself says is known as such', async () => {
  const refused = await caught(
    () => new Promise((_, reject) => connect({ port: 1, host: '127.0.0.1' }).once('error', reject)),
  );
  expect(refused).toMatchObject({ code: 'ECONNREFUSED' });
  expect(isSystemError(refused)).toBe(true);
  expect(isSystemError(await caught(() => readFileSync('/no/such/file')))).toBe(true);
});

test.each(['EPIPE', 'ECONNRESET', 'ETIMEDOUT', 'EAI_AGAIN', 'EAI_FAIL', 'ENOTFOUND', 'E2BIG'])(
  '%s is of the system, in this realm and in another',
  (code) => {
    expect(isSystemError(Object.assign(new Error('x'), { code }))).toBe(true);
    expect(isSystemError(runInNewContext(`Object.assign(new Error('x'), { code: '${code}' })`))).toBe(true);
  },
);

test('several of them at once, as of an address with two families, are of the system too', () => {
  const one = Object.assign(new Error('x'), { code: 'ECONNREFUSED' });
  expect(isSystemError(new AggregateError([new Error('y'), one]))).toBe(true);
  expect(
    isSystemError(runInNewContext(`new AggregateError([Object.assign(new Error('x'), { code: 'EPIPE' })])`)),
  ).toBe(true);
  expect(isSystemError(new AggregateError([new Error('y')]))).toBe(false);
});

test.each([
  ['a mistake in the use of Node', Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' })],
  ['an error of our own table', new TenantryError('ENGINE_UNAVAILABLE')],
  ['an SQLSTATE', Object.assign(new Error('x'), { code: '23505' })],
  ['a number', Object.assign(new Error('x'), { code: 111 })],
  ['an error without a code', new Error('EPIPE')],
  ['what only looks like an error', { name: 'Error', code: 'EPIPE', message: 'x' }],
  ['a text', 'EPIPE'],
  ['nothing', undefined],
])('%s is not of the system', (_, error) => {
  expect(isSystemError(error)).toBe(false);
});
