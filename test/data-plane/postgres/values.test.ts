/** What a statement is given and what comes back: any value, whole or prepared, and each statement's its own. */
import fc from 'fast-check';
import type { TenantId } from '../../../domain/ids.js';
import { anyText } from '../../support/any-text.js';
import { openCell, type TestCell } from './support.js';

let cell: TestCell;
let acme: TenantId;
let initech: TenantId;
beforeAll(async () => {
  cell = await openCell();
  [acme, initech] = await Promise.all([cell.tenant(), cell.tenant()]);
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

it('takes any text and any bytes, of whatever length, whole or prepared', async () => {
  const scoped = cell.scoped(acme);
  const text = 'SELECT $1::text AS first, $2::bytea AS bytes, $3::text AS last';
  // PostgreSQL knows no NUL, and half a pair of surrogates is no text: it becomes U+FFFD, as everywhere in Node.
  const half = fc.constantFrom('\ud800', '\udfff');
  const some = fc.oneof(
    anyText(),
    fc.nat(90).map((length) => '你'.repeat(length)),
    half,
  );
  const sent = (one: string | null) => one && Buffer.from(one).toString();
  const value = fc.option(some.map((one) => one.replaceAll('\0', '')));
  const bytes = fc.option(fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)));
  await fc.assert(
    fc.asyncProperty(value, bytes, value, async (first, middle, last) => {
      const { rows } = await scoped.query(text, [first, middle, last]);
      expect(rows).toEqual([{ first: sent(first), bytes: middle, last: sent(last) }]);
    }),
  );
});

it('asks nothing of a value once it has been read', async () => {
  const bytes = Buffer.from('abc');
  const touched = jest.fn(() => 60);
  Object.defineProperties(
    bytes,
    Object.fromEntries(['copy', 'length', 'byteLength', 'buffer'].map((name) => [name, { get: touched }])),
  );
  const disguised = Object.assign(() => undefined, { toString: () => bytes });
  const scoped = cell.scoped(acme);
  const text = 'SELECT $1::bytea AS bytes';
  for (const value of [bytes, disguised, bytes, disguised])
    expect((await scoped.query(text, [value])).rows).toEqual([{ bytes: Buffer.from('abc') }]);
  expect(touched).not.toHaveBeenCalled();
});

it('fails alone, and leaves nothing behind, when there is no room to write it', async () => {
  const pool = cell.pool({ connections: 1 });
  const mine = pool.forTenant({ tenantId: acme });
  const theirs = pool.forTenant({ tenantId: initech });
  const label = 'SELECT label FROM app.things';
  expect((await mine.query(label)).rows).toEqual([{ label: acme }]);
  // Not prepared, about to be, and prepared; more often than a connection takes statements at once.
  for (let round = 0; round < 70; round++) {
    const noRoom = jest.spyOn(Buffer, 'allocUnsafe').mockImplementationOnce(() => {
      throw new RangeError('Array buffer allocation failed');
    });
    const failed = expect(mine.query('SELECT 1 AS one')).rejects.toThrow('allocation failed');
    noRoom.mockRestore();
    expect((await theirs.query(label)).rows).toEqual([{ label: initech }]);
    await failed;
    if (round > 60) expect((await mine.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
  }
});

it('gives its rows no more than it has, whatever was written to the result of another', async () => {
  const pool = cell.pool();
  const text = 'SELECT label FROM app.things';
  for (const tenantId of [acme, initech, acme, initech]) {
    const result = await pool.forTenant({ tenantId }).query(text);
    expect(result.rows).toEqual([{ label: tenantId }]);
    const row = Reflect.get(result, '_prebuiltEmptyResultObject') as object;
    Reflect.set(row, 'secret', acme);
  }
});
