/** Failures of the stores, sorted: what passes is tried again, what is refused is not, and no value goes out. */
import fc from 'fast-check';
import { ReplyError } from 'ioredis';
import {
  MongoClientClosedError,
  MongoError,
  MongoNetworkError,
  MongoNetworkTimeoutError,
  MongoNotConnectedError,
  MongoOperationTimeoutError,
  MongoServerError,
  MongoTopologyClosedError,
} from 'mongodb';
import { runInNewContext } from 'node:vm';
import { DatabaseError } from 'pg';
import { catalogueError, isPostgresOutage } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import { STORES } from '../../domain/operation.js';
import { inStore, storeError, storeTitle } from '../../tenancy/store-error.js';

const system = (code: string): Error =>
  Object.assign(new Error(`write ${code}`), { code, errno: -1, syscall: 'write' });
const sqlstate = (code: string): DatabaseError =>
  Object.assign(new DatabaseError('hush', 4, 'error'), { code, detail: 'hush' });
const mongoCode = (code: number, more: object = {}): MongoServerError =>
  new MongoServerError({ message: 'hush', code, ...more });
const reply = (text: string): Error => new ReplyError(text);
const maxRetries = Object.assign(new Error('Reached the max retries per request limit'), {
  name: 'MaxRetriesPerRequestError',
});

const SYSTEM = ['EPIPE', 'ECONNRESET', 'ECONNREFUSED', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTFOUND', 'EAI_AGAIN'];

test.each(STORES.flatMap((store) => SYSTEM.map((code) => [store, code] as const)))(
  'in %s a raw %s is an outage, alone, among others and of another realm',
  (store, code) => {
    const foreign: unknown = runInNewContext(`Object.assign(new Error('x'), { code: '${code}' })`);
    for (const error of [system(code), new AggregateError([new Error('x'), system(code)]), foreign])
      expect(storeError(store, error).code).toBe('STORE_UNAVAILABLE');
  },
);

test.each([
  '08006',
  '08P01',
  '53100',
  '53300',
  '57014',
  '57P01',
  '57P03',
  '40001',
  '40P01',
  '25006',
  '25P03',
  '25P04',
  '55P03',
])('SQLSTATE %s passes', (code) => {
  expect(storeError('postgres', sqlstate(code)).code).toBe('STORE_UNAVAILABLE');
});

test.each(['23505', '42501', '42P01', '22P02', '28P01', '3D000', '25P02', 'P0001', '55000'])(
  'SQLSTATE %s is a refusal that is named',
  (code) => {
    const error = storeError('postgres', sqlstate(code));
    expect([error.code, error.params['reason']]).toEqual(['STORE_REFUSED', `SQLSTATE ${code}`]);
  },
);

test.each([
  'Connection terminated unexpectedly',
  'timeout exceeded when trying to connect',
  'Query read timeout',
  'Client has encountered a connection error and is not queryable',
])('what pg itself says of a lost connection ("%s") passes', (message) => {
  expect(isPostgresOutage(new Error(message))).toBe(true);
  expect(catalogueError(new Error(message))).toMatchObject({ code: 'CATALOGUE_UNAVAILABLE' });
});

test('an error of the catalogue that is no outage stays as it is', () => {
  for (const error of [new Error('bug'), sqlstate('23505'), 'text', undefined])
    expect(catalogueError(error)).toBe(error);
});

test.each([
  ['a lost connection', new MongoNetworkError('hush')],
  ['a time-out of the network', new MongoNetworkTimeoutError('hush')],
  ['a time-out of the operation', new MongoOperationTimeoutError('hush')],
  ['a client that is not connected', new MongoNotConnectedError('hush')],
  ['a client that was closed', new MongoClientClosedError()],
  ['a topology that was closed', new MongoTopologyClosedError('hush')],
  ['a shutdown', mongoCode(91)],
  ['a cursor that a restart took', mongoCode(43)],
  ['a step-down', mongoCode(11_602)],
  ['no primary', mongoCode(10_107)],
  ['a full disk', mongoCode(14_031)],
  ['a busy lock', mongoCode(46)],
  ['a lock that did not come in time', mongoCode(24)],
  ['a majority that did not acknowledge in time', mongoCode(64)],
  ['no member to read from', mongoCode(133)],
  ['a database that is still being dropped', mongoCode(215)],
  ['an index whose building was aborted by a fail-over', mongoCode(276)],
  ['a statement that an operator has killed', mongoCode(11_601)],
  ['a broken connection between servers', mongoCode(9_001)],
  ['what the server calls retryable', mongoCode(9_999, { errorLabels: ['RetryableWriteError'] })],
])('in MongoDB %s passes', (_, error) => {
  expect(storeError('mongo', error).code).toBe('STORE_UNAVAILABLE');
});

test.each([
  [mongoCode(13, { codeName: 'Unauthorized' }), 'code 13 Unauthorized'],
  [
    mongoCode(121, { codeName: 'DocumentValidationFailure', errInfo: { hush: 1 } }),
    'code 121 DocumentValidationFailure',
  ],
  [mongoCode(11_000), 'code 11000'],
  [new MongoError('hush'), 'MongoError'],
])('in MongoDB %s is a refusal that is named', (error, reason) => {
  expect(storeError('mongo', error)).toMatchObject({
    code: 'STORE_REFUSED',
    params: { store: 'MongoDB', reason },
  });
});

test.each([
  reply('LOADING Redis is loading the dataset in memory'),
  reply("READONLY You can't write against a read only replica."),
  reply("OOM command not allowed when used memory > 'maxmemory'."),
  reply('MISCONF Redis is configured to save RDB snapshots'),
  reply('CLUSTERDOWN Hash slot not served'),
  reply('BUSY Redis is busy running a script'),
  maxRetries,
  new Error('Connection is closed.'),
  new Error('Command timed out'),
  // Of a pipeline that was answered in part.
  Object.assign(new Error('Command aborted due to connection close'), { name: 'AbortError' }),
  new Error("Stream isn't writeable and enableOfflineQueue options is false"),
])('in Redis "%s" passes', (error) => {
  expect(storeError('redis', error).code).toBe('STORE_UNAVAILABLE');
});

test.each([
  [reply('WRONGPASS invalid username-password pair'), 'WRONGPASS'],
  [reply("NOPERM this user has no permissions to access the 'get' command"), 'NOPERM'],
  [reply('BUSYGROUP Consumer Group name already exists'), 'BUSYGROUP'],
  [reply('BUSYKEY Target key name already exists.'), 'BUSYKEY'],
  [reply('ERR unknown command'), 'ERR'],
])('in Redis "%s" is a refusal that is named by its first word', (error, reason) => {
  expect(storeError('redis', error)).toMatchObject({
    code: 'STORE_REFUSED',
    params: { store: 'Redis', reason },
  });
});

test('what passes in one store is no outage of another', () => {
  expect(storeError('mongo', sqlstate('57P01')).code).toBe('STORE_REFUSED');
  expect(storeError('postgres', mongoCode(91)).code).toBe('STORE_REFUSED');
  expect(storeError('postgres', reply('LOADING x')).code).toBe('STORE_REFUSED');
});

test('neither the message nor the parameters of what comes out hold a word of the failure', () => {
  const text = fc.oneof(
    fc.string({ minLength: 6 }).map((word) => `hush ${word}`),
    fc.stringMatching(/^HUSH[A-Z]{0,8}$/).map((word) => `${word} is not a function`),
  );
  const makers = [
    (message: string) => new Error(message),
    (message: string) => new TypeError(message),
    (message: string) => new MongoError(message),
    (message: string) =>
      Object.assign(new DatabaseError(message, 1, 'error'), { code: '23505', detail: message }),
    (message: string) => new MongoServerError({ message, code: 11_000, keyValue: { message } }),
    (message: string) => ({ message }),
    (message: string) => message,
  ];
  fc.assert(
    fc.property(fc.constantFrom(...STORES), fc.constantFrom(...makers), text, (store, make, message) => {
      const thrown = make(message);
      const { code, params, message: shown, cause } = storeError(store, thrown);
      expect(code).toBe('STORE_REFUSED');
      expect(JSON.stringify([params, shown])).not.toMatch(/hush/i);
      expect(cause).toBe(thrown);
    }),
  );
});

test("what is nobody's error is refused as unknown", () => {
  for (const thrown of [undefined, null, 42, 'EPIPE', { code: 'EPIPE' }])
    for (const store of STORES)
      expect(storeError(store, thrown)).toMatchObject({
        code: 'STORE_REFUSED',
        params: { reason: 'unknown' },
      });
});

test('work in a store gives its value, its failure sorted, and an error of ours as it is', async () => {
  const ours = new TenantryError('NAME_TAKEN', { kind: 'x', store: 'y' });
  expect(await inStore('redis', Promise.resolve(7))).toBe(7);
  await expect(inStore('redis', Promise.reject(ours))).rejects.toBe(ours);
  for (const store of STORES)
    await expect(inStore(store, Promise.reject(system('EPIPE')))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: `${storeTitle(store)} cannot be reached, or takes no statements for now.`,
    });
});
