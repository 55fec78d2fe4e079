/** Answers that are longer than a process may hold: they fail, and with them nobody else on the connection. */
import type { TenantId } from '../../../domain/ids.js';
import { until } from '../../support/until.js';
import { backendOf, codeOf, isRunning, labels, openCell, type TestCell } from './support.js';

let cell: TestCell;
let acme: TenantId;
let initech: TenantId;
beforeAll(async () => {
  cell = await openCell();
});
beforeEach(async () => {
  [acme, initech] = await Promise.all([cell.tenant(), cell.tenant()]);
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

describe('a statement', () => {
  it('whose rows are more than may be held in memory fails alone, and none of them is held', async () => {
    const pool = cell.pool({ connections: 1, maxResultBytes: 100_000 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const pid = await backendOf(b);
    const rows = (count: number): Promise<unknown> =>
      a.query(`SELECT repeat('x', 1000) FROM generate_series(1, ${count})`);
    expect(await Promise.all([codeOf(rows(200)), labels(b), codeOf(rows(90)), backendOf(b)])).toEqual([
      'STORE_REFUSED',
      [initech],
      'nothing',
      pid,
    ]);
    const inTransaction = a.transaction((tx) =>
      tx.query(`SELECT repeat('x', 1000) FROM generate_series(1, 200)`),
    );
    expect(await codeOf(inTransaction)).toBe('STORE_REFUSED');
  });

  it('one value or error of which is longer than may be held fails alone, and is not held', async () => {
    const pool = cell.pool({ connections: 1, maxResultBytes: 3_000_000, statementTimeoutMs: 60_000 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const pid = await backendOf(b);
    const value = a.query(`SELECT repeat('x', 540000000)`);
    const error = a.query(`SELECT repeat('x', 2000000)::int`).catch((e: unknown) => e);
    expect([await codeOf(value), await labels(b), await backendOf(b)]).toEqual([
      'STORE_REFUSED',
      [initech],
      pid,
    ]);
    expect(await error).toMatchObject({
      code: '54000',
      message: expect.stringMatching(/^.{1,200}$/) as string,
    });
    expect((await a.query(`SELECT repeat('x', 2900000) AS text`)).rows[0]?.['text']).toHaveLength(2_900_000);
  });

  it('whose answer cannot be read costs its connection, and not the process', async () => {
    const pool = cell.pool({ connections: 1, statementTimeoutMs: 60_000, maxResultBytes: 2 ** 30 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    // Longer than a string of V8 can be.
    const long = codeOf(a.query(`SELECT repeat('x', 540000000)`));
    const behind = codeOf(labels(b));
    expect([await long, await behind]).toEqual(['STORE_REFUSED', 'STORE_UNAVAILABLE']);
    expect(await labels(b)).toEqual([initech]);
  });

  it('with a huge result on a connection of its own does not keep the others waiting', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    await scoped.query('SELECT 1');
    const order: string[] = [];
    const huge = scoped
      .query({
        text: `SELECT repeat('x', 1000) FROM generate_series(1, 100000), pg_sleep(0.3)`,
        dedicated: true,
      })
      .then(({ rows }) => order.push(`huge ${rows.length}`));
    await until('it runs', () => isRunning(cell, 'generate_series'));
    await Promise.all(Array.from({ length: 20 }, () => labels(scoped).then(() => order.push('small'))));
    await huge;
    expect(order).toEqual([...Array.from({ length: 20 }, () => 'small'), 'huge 100000']);
  });
});
