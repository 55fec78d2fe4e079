/** The scoped client against a real server: what comes back, what fails and how, and that failing stays with who failed. */
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import { enterTenant, findCurrentTenant, type Tenant } from '../../../tenancy/context/tenant-context.js';
import type { ScopedQueryConfig } from '../../../tenancy/postgres/scoped.js';
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

const insert = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';

describe('a statement', () => {
  it('sees the rows of its tenant and no others, without saying whose', async () => {
    const pool = cell.pool();
    expect(await labels(pool.forTenant({ tenantId: acme }))).toEqual([acme]);
    expect(await labels(pool.forTenant({ tenantId: initech }))).toEqual([initech]);
    // With a time-out of its own it enters in another way.
    for (const tenantId of [acme, initech]) {
      const text = 'SELECT label FROM app.things';
      const { rows } = await pool.forTenant({ tenantId }).query({ text, timeoutMs: 5_000 });
      expect(rows).toEqual([{ label: tenantId }]);
    }
  });

  it('takes parameters and gives results as node-postgres does', async () => {
    const scoped = cell.scoped(acme);
    const text = `SELECT $1::int AS number, $2::text AS text, $3::jsonb AS json, $4::timestamptz AS at,
      $5::bytea AS bytes, $6::text[] AS list, $7::text AS nothing, $8::boolean AS flag, 1::bigint AS big`;
    const at = new Date('2020-02-03T04:05:06Z');
    const values = [7, 'ü 你', { a: [1] }, at, Buffer.from('ab'), ['x', 'y,z'], null, true];
    const plain = await cell.raw('runtime');
    const expected = await plain.query<Record<string, unknown>>(text, values);
    // Twice and thrice: the second is prepared, the third finds it prepared.
    for (let i = 0; i < 3; i++) {
      const result = await scoped.query(text, values);
      expect(result.rows).toEqual(expected.rows);
      expect(result.fields).toEqual(expected.fields);
      expect(result).toMatchObject({ command: 'SELECT', rowCount: 1 });
    }
    expect(expected.rows[0]).toMatchObject({ number: 7, at, big: '1', list: ['x', 'y,z'] });
  });

  it('takes rowMode and types', async () => {
    const scoped = cell.scoped(acme);
    const types = { getTypeParser: () => (value: string) => `<${value}>` } as unknown as pg.CustomTypesConfig;
    const { rows } = await scoped.query({ text: 'SELECT $1::int, 2', values: [1], rowMode: 'array', types });
    expect(rows).toEqual([['<1>', '<2>']]);
  });

  it('becomes what is sent as its caller and at once, though it may be sent by whoever makes room', async () => {
    const pool = cell.pool({ connections: 1, maxInFlight: 1 });
    const current = (): string => findCurrentTenant()?.tenantId ?? 'nobody';
    const types = { getTypeParser: () => (value: string) => `${value}, heard as ${current()}` };
    const made = [acme, initech, acme, initech].map((tenantId) =>
      enterTenant({ tenantId } as Tenant, () =>
        pool.forTenant({ tenantId }).query({
          text: 'SELECT $1::text AS value',
          values: [{ toPostgres: () => `made as ${current()}` }],
          types: types as unknown as pg.CustomTypesConfig,
        }),
      ),
    );
    expect((await Promise.all(made)).map(({ rows }) => rows[0]?.['value'])).toEqual(
      [acme, initech, acme, initech].map((tenantId) => `made as ${tenantId}, heard as nobody`),
    );
  });

  it('is read once: what it was when it was admitted is what is sent', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    for (const on of [scoped, { query: (config: object) => scoped.pool.query(config as pg.QueryConfig) }]) {
      const texts = ['SELECT 1', `SET work_mem = '64kB'`, `SET work_mem = '64kB'`];
      await codeOf(
        on.query({
          get text() {
            return texts.shift() ?? '';
          },
        }),
      );
    }
    const { rows } = await scoped.query(`SELECT current_setting('work_mem') AS work_mem`);
    expect(rows).not.toEqual([{ work_mem: '64kB' }]);
  });

  it('may have as many values as the protocol counts, and no more', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const values = Array.from({ length: 65_535 }, (_, i) => i);
    const text = `SELECT count(*)::int AS count FROM (VALUES ${values.map((i) => `($${i + 1}::int)`).join()}) AS v`;
    for (let i = 0; i < 3; i++) expect((await scoped.query(text, values)).rows).toEqual([{ count: 65_535 }]);
    expect(await codeOf(scoped.query(text, [...values, 1]))).toBe('STATEMENT_REFUSED');
    const missing: unknown[] = [1];
    missing[2] = 3;
    const endless = Object.assign(missing, {
      *[Symbol.iterator]() {
        for (let i = 0; i < 1_000_000; i++) yield i;
      },
    });
    const { rows } = await scoped.query('SELECT $1::int AS a, $2::int AS b, $3::int AS c', endless);
    expect(rows).toEqual([{ a: 1, b: null, c: 3 }]);
  });

  it('that node-postgres would submit by itself, a cursor or a stream, is refused, with what to do instead', async () => {
    const scoped = cell.scoped(acme, { connections: 1, interactive: 1 });
    class Cursor {
      readonly text = 'SELECT label FROM app.things';
      submit(): void {
        throw new Error('it has been submitted');
      }
    }
    const submittable = new Cursor() as unknown as ScopedQueryConfig;
    for (const work of [
      () => scoped.query(submittable),
      () => scoped.query(submittable, []),
      () => scoped.query(new pg.Query('SELECT 1') as unknown as ScopedQueryConfig),
      () => scoped.transaction((tx) => tx.query(submittable)),
      async () => scoped.pool.query(submittable as unknown as pg.QueryConfig),
    ])
      await expect(work()).rejects.toMatchObject({
        code: 'STATEMENT_REFUSED',
        message: expect.stringContaining('DECLARE') as string,
      });
    for (const none of [undefined, null, 5])
      expect(await codeOf(scoped.query(none as unknown as string))).toBe('STATEMENT_REFUSED');
    expect(await codeOf(scoped.transaction((tx) => tx.query(null as unknown as string)))).toBe(
      'STATEMENT_REFUSED',
    );
  });

  it('whose values are no parameters fails before anything of it is sent', async () => {
    const pool = cell.pool({ connections: 1 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const pid = await backendOf(b);
    const noBuffer: unknown = Object.defineProperty(Object.create(Buffer.prototype), 'length', { value: 5 });
    for (let i = 0; i < 3; i++) {
      const [failed, before, behind] = await Promise.allSettled([
        a.query('SELECT $1::text', [noBuffer]),
        labels(b),
        backendOf(b),
      ]);
      expect(failed.status).toBe('rejected');
      expect([before, behind]).toMatchObject([{ value: [initech] }, { value: pid }]);
    }
  });

  it('that the server would not read for its length is refused, and costs nobody the connection', async () => {
    const pool = cell.pool({ connections: 1 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    // Pages that nobody touches are none.
    const much = Buffer.alloc(400_000_000);
    const together = Promise.all([
      codeOf(a.query('SELECT length($1) + length($2) + length($3)', [much, much, much])),
      labels(b),
    ]);
    expect(await together).toEqual(['STATEMENT_REFUSED', [initech]]);
  });

  it('whose own types throw fails alone', async () => {
    const pool = cell.pool({ connections: 1 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const pid = await backendOf(b);
    const types = {} as pg.CustomTypesConfig;
    const [failed, ...others] = await Promise.all([
      a.query({ text: 'SELECT 1', types }).catch((error: unknown) => error),
      labels(b),
      backendOf(b),
    ]);
    expect(failed).toBeInstanceOf(TypeError);
    expect(others).toEqual([[initech], pid]);
  });

  it('counts the rows it wrote and returns those it was asked for', async () => {
    const scoped = cell.scoped(acme);
    expect(await scoped.query(insert, [acme, 2, 'two'])).toMatchObject({ command: 'INSERT', rowCount: 1 });
    const { rows } = await scoped.query('UPDATE app.things SET label = label || $1 RETURNING id, label', [
      '!',
    ]);
    expect(rows).toEqual([
      { id: 1, label: `${acme}!` },
      { id: 2, label: 'two!' },
    ]);
    expect(await scoped.query('DELETE FROM app.things WHERE id = 2')).toMatchObject({ rowCount: 1 });
    expect(await labels(cell.scoped(initech))).toEqual([initech]);
  });

  it('that fails gives the error of the server, with its code and where in the caller it came from', async () => {
    const scoped = cell.scoped(acme);
    const error: unknown = await scoped.query('SELECT 1 / $1::int', [0]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(error).toMatchObject({ code: '22012' });
    expect((error as Error).stack).toContain('scoped.test.ts');
    expect(await codeOf(scoped.query('SELEC'))).toBe('STATEMENT_REFUSED');
    expect(await codeOf(scoped.query('SELECT FROM nowhere'))).toBe('42P01');
    expect(await codeOf(scoped.query(insert, [acme, 1, 'again']))).toBe('23505');
    expect(await codeOf(scoped.query('SELECT $1::int', ['no number']))).toBe('22P02');
    expect(await codeOf(scoped.query('SELECT $1::int', []))).toBe('08P01');
  });

  it('cannot write a row of another tenant, or take one of its own over to it', async () => {
    const scoped = cell.scoped(acme);
    expect(await codeOf(scoped.query(insert, [initech, 9, 'mine']))).toBe('42501');
    expect(await codeOf(scoped.query('UPDATE app.things SET tenant_id = $1', [initech]))).toBe('42501');
    expect(await scoped.query('DELETE FROM app.things WHERE tenant_id = $1', [initech])).toMatchObject({
      rowCount: 0,
    });
  });

  it('that fails does not disturb those before and behind it on the same connection', async () => {
    const pool = cell.pool({ connections: 1 });
    const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const pid = await backendOf(a);
    const mixed = await Promise.allSettled([
      labels(a),
      b.query('SELECT 1 / 0'),
      labels(b),
      a.query('SELECT broken FROM app.things'),
      a.query(insert, [acme, 2, 'two']),
      b.query(insert, [initech, 1, 'taken']),
      b.query('SELECT tenantry.enter($1, NULL, NULL)', [acme]),
      labels(a),
      labels(b),
    ]);
    expect(mixed.map((one) => (one.status === 'fulfilled' ? one.value : codeOfReason(one.reason)))).toEqual([
      [acme],
      '22012',
      [initech],
      '42703',
      expect.objectContaining({ rowCount: 1 }),
      '23505',
      'TN001',
      [acme, 'two'],
      [initech],
    ]);
    expect(await backendOf(b)).toBe(pid);
  });

  it('is its own tenant’s among thousands of others’, over two connections and with failures in between', async () => {
    const tenants = [acme, initech, ...(await Promise.all(Array.from({ length: 18 }, () => cell.tenant())))];
    const pool = cell.pool({ connections: 2, maxQueued: 10_000 });
    const wrong: unknown[] = [];
    await Promise.all(
      Array.from({ length: 4_000 }, async (_, i) => {
        const tenant = tenants[(i * 7) % tenants.length] as TenantId;
        const scoped = pool.forTenant({ tenantId: tenant });
        if (i % 5 === 1) {
          const failing = i % 2 === 0 ? 'SELECT 1 / 0' : `SELECT 'no number ${i}'::int`;
          if ((await codeOf(scoped.query(failing))) === 'nothing') wrong.push(failing);
        } else if (i % 5 === 2) {
          const { rowCount } = await scoped.query('UPDATE app.things SET label = label WHERE true');
          if (rowCount !== 1) wrong.push({ rowCount });
        } else {
          const { rows } = await scoped.query('SELECT tenant_id, label FROM app.things');
          if (rows.length !== 1 || rows[0]?.['tenant_id'] !== tenant || rows[0]?.['label'] !== tenant)
            wrong.push({ tenant, rows });
        }
      }),
    );
    expect(wrong).toEqual([]);
  });

  it('is refused before it is sent when it could outlive its transaction', async () => {
    const scoped = cell.scoped(acme);
    for (const text of [
      'SET app.tenant_id = 1',
      ' /* /* */ */ set role tenantry_purge',
      '-- SELECT\nRESET ALL',
      'BEGIN',
      'COMMIT',
      'PREPARE p AS SELECT 1',
      'LISTEN x',
      'DO $$ BEGIN END $$',
      'COPY app.things TO STDOUT',
      'DECLARE c CURSOR FOR SELECT 1',
      'CREATE TABLE t ()',
      'CALL p()',
      '',
      ';',
      'SELECT 1\0',
    ])
      expect([text, await codeOf(scoped.query(text))]).toEqual([text, 'STATEMENT_REFUSED']);
    // One text, several statements: the server itself takes one.
    expect(await codeOf(scoped.query('SELECT 1; COMMIT'))).toBe('42601');
    expect(await codeOf(scoped.query('SELECT 1; SET app.tenant_id = 1', []))).toBe('42601');
  });

  it('is given up by the server after its time', async () => {
    const scoped = cell.scoped(acme, { statementTimeoutMs: 50, connections: 1 });
    expect(await codeOf(scoped.query('SELECT pg_sleep(30)'))).toBe('57014');
    expect(await codeOf(scoped.query({ text: 'SELECT pg_sleep(30)', timeoutMs: 20 }))).toBe('57014');
    // A longer one than usual is no reason to give up the connection.
    expect(await codeOf(scoped.query({ text: 'SELECT pg_sleep(0.2)', timeoutMs: 20_000 }))).toBe('nothing');
    expect(await codeOf(scoped.query({ text: 'SELECT pg_sleep(0.2)', timeoutMs: 0 }))).toBe('nothing');
    // Nor is it that of those behind it.
    expect(await codeOf(scoped.query('SELECT pg_sleep(30)'))).toBe('57014');
    expect(await labels(scoped)).toEqual([acme]);
  });

  it('takes a real signal and a number of milliseconds, and is not sent with anything else', async () => {
    const pool = cell.pool({ connections: 1, interactive: 1, statementTimeoutMs: 300 });
    const scoped = pool.forTenant({ tenantId: acme });
    const like = Object.create(AbortSignal.prototype) as AbortSignal;
    const odd = [null, {}, like].map((signal) => ({ signal })) as { signal: AbortSignal }[];
    const times = ['', '5', Number.NaN, -1, Number.POSITIVE_INFINITY, { valueOf: () => 5 }, null];
    const limits = [...odd, ...times.map((timeoutMs) => ({ timeoutMs: timeoutMs as number }))];
    for (const limit of limits) {
      const seen = [limit, await codeOf(scoped.query({ text: 'SELECT 1 / 0', ...limit }))];
      expect(seen).toEqual([limit, 'STATEMENT_REFUSED']);
      expect(await codeOf(scoped.transaction(labels, limit))).toBe('STATEMENT_REFUSED');
      const within = scoped.transaction((tx) => tx.query({ text: 'SELECT 1 / 0', ...limit }));
      expect(await codeOf(within)).toBe('STATEMENT_REFUSED');
    }
    // Nor has one of them become everybody's time.
    expect(await codeOf(scoped.query('SELECT pg_sleep(10)'))).toBe('57014');
  });

  it('is cancelled in the server by its signal, and its connection used by nobody again', async () => {
    const scoped = cell.scoped(acme, { interactive: 1 });
    const abort = new AbortController();
    const slow = codeOf(scoped.query({ text: 'SELECT pg_sleep(600)', signal: abort.signal, timeoutMs: 0 }));
    await until('it runs', () => isRunning(cell, 'pg_sleep(600)'));
    abort.abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
    expect(await slow).toBe('ENOUGH');
    await until('it has ended', async () => !(await isRunning(cell, 'pg_sleep(600)')));
    expect(await codeOf(scoped.query({ text: 'SELECT 1', dedicated: true }))).toBe('nothing');
    expect(await codeOf(scoped.query({ text: 'SELECT 1', signal: abort.signal }))).toBe('ENOUGH');
  });
});

const codeOfReason = (reason: unknown): unknown => (reason as { code?: unknown }).code;

it('closing waits for connections that are just being opened', async () => {
  for (let round = 0; round < 30; round++) {
    const pool = cell.pool();
    const scoped = pool.forTenant({ tenantId: acme });
    const work = Promise.allSettled([
      scoped.query('SELECT 1'),
      scoped.transaction((tx) => tx.query('SELECT 1')),
    ]);
    await pool.close();
    await work;
    await cell.settle();
  }
});
