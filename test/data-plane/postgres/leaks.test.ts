/**
 * The known ways in which one tenant's rows come to another through a pooled connection or a schema. Each is tried through
 * the scoped client, and again on a connection of the product's role that nothing guards, to see what the server itself
 * does.
 */
import type pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import type { ScopedPostgres } from '../../../tenancy/postgres/scoped.js';
import { codeOf, openCell, type TestCell } from './support.js';

let shared: TestCell;
let cell: TestCell;
let acme: TenantId;
let initech: TenantId;
let scoped: ScopedPostgres;
let raw: pg.Client;
const enter = async (which: TestCell): Promise<void> => {
  cell = which;
  [acme, initech] = await Promise.all([cell.tenant(), cell.tenant()]);
  scoped = cell.scoped(acme, { connections: 1, interactive: 1 });
  raw = await cell.raw('runtime');
};
beforeAll(async () => {
  shared = await openCell();
});
beforeEach(() => enter(shared));
afterEach(() => (cell === shared ? cell.settle() : cell.close()));
afterAll(() => shared.close());

/** For a test that changes what is every tenant's, or counts what is. */
const inACellOfItsOwn = async (): Promise<void> => enter(await openCell());

const SELECT = 'SELECT label FROM app.things';
const ENTER = 'SELECT FROM tenantry.enter($1, NULL, NULL)';
interface Queryable {
  query(text: string): Promise<{ readonly rows: readonly Record<string, unknown>[] }>;
}
const labels = async (on: Queryable): Promise<unknown[]> =>
  (await on.query(SELECT)).rows.map((row) => row['label']);
const refusedBeforeItIsSent = async (text: string): Promise<void> => {
  expect([text, await codeOf(scoped.query(text))]).toEqual([text, 'STATEMENT_REFUSED']);
  expect([text, await codeOf(scoped.transaction((tx) => tx.query(text)))]).toEqual([
    text,
    'STATEMENT_REFUSED',
  ]);
};

describe('a session SET, which a rollback turns back to the tenant before', () => {
  it('is refused; the server, asked directly, does just that', async () => {
    await refusedBeforeItIsSent(`SET app.tenant_id = '${initech}'`);
    await raw.query(`SET app.tenant_id = '${acme}'`);
    await raw.query(`BEGIN; SET app.tenant_id = '${initech}'; ROLLBACK`);
    expect(await labels(raw)).toEqual([acme]);
  });

  it('that somebody left behind is met by a refusal and a new connection, never by the other’s rows', async () => {
    const { rows } = await cell.admin.query<{ name: string }>('SELECT current_database() AS name');
    const role = `ALTER ROLE tenantry_runtime IN DATABASE ${rows[0]?.name}`;
    await cell.admin.query(`${role} SET app.tenant_id = '${initech}'`);
    expect(await codeOf(scoped.query(SELECT))).toBe('TN001');
    expect(await codeOf(scoped.transaction((tx) => tx.query(SELECT)))).toBe('TN001');
    await cell.admin.query(`${role} RESET app.tenant_id`);
    expect(await codeOf(scoped.query(SELECT))).toBe('nothing');
    expect(await labels(scoped)).toEqual([acme]);
  });
});

describe('a context that is set where the planner leaves it out', () => {
  const text = `WITH context AS (SELECT set_config('app.tenant_id', $1, true)) ${SELECT}`;

  it('changes nothing: the context was a statement of its own', async () => {
    const { rows } = await scoped.query(text, [initech]);
    expect(rows).toEqual([{ label: acme }]);
  });

  it('is none: the server does not answer without one', async () => {
    expect(await codeOf(raw.query(text, [initech]))).toBe('42704');
    await raw.query(`BEGIN; SET LOCAL app.tenant_id = '${acme}'; COMMIT`);
    // It was there once, and is empty now.
    expect(await codeOf(raw.query(text, [initech]))).toBe('22P02');
  });
});

describe('one connection under two handlers', () => {
  it('keeps each to its own, statement by statement', async () => {
    const pool = cell.pool({ connections: 1, interactive: 1 });
    const [one, two] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
    const seen = await Promise.all(Array.from({ length: 50 }, () => Promise.all([labels(one), labels(two)])));
    for (const [ofOne, ofTwo] of seen) expect([ofOne, ofTwo]).toEqual([[acme], [initech]]);
    await one.transaction(async (tx) => {
      expect(await labels(two)).toEqual([initech]);
      expect(await labels(tx)).toEqual([acme]);
    });
  });

  it('is refused by the server in one transaction', async () => {
    await raw.query('BEGIN');
    await raw.query(ENTER, [acme]);
    expect(await codeOf(raw.query(ENTER, [initech]))).toBe('TN001');
    expect(await codeOf(raw.query(SELECT))).toBe('25P02');
  });
});

describe('what stays with a connection', () => {
  it('a temporary table is refused, by the server as well', async () => {
    for (const text of ['CREATE TEMP TABLE kept AS SELECT 1', 'CREATE TABLE app.kept (id int)'])
      await refusedBeforeItIsSent(text);
    for (const text of [`${SELECT} INTO TEMP kept`, 'SELECT label INTO TEMP kept FROM app.things']) {
      const code = await codeOf(scoped.query(text));
      expect(['42501', '42601']).toContain(code);
    }
    expect(await codeOf(raw.query('CREATE TEMP TABLE kept AS SELECT 1'))).toBe('42501');
    expect(await codeOf(raw.query('CREATE TABLE app.kept (id int)'))).toBe('42501');
    expect(await codeOf(raw.query('CREATE SCHEMA kept'))).toBe('42501');
  });

  it('a cursor WITH HOLD is refused; the server would let the next tenant read it', async () => {
    await refusedBeforeItIsSent(`DECLARE kept CURSOR WITH HOLD FOR ${SELECT}`);
    await refusedBeforeItIsSent(`DECLARE kept INSENSITIVE CURSOR /* */ WITH\nHOLD FOR ${SELECT}`);
    expect(await codeOf(scoped.query('FETCH ALL FROM kept'))).toBe('STATEMENT_REFUSED');
    await raw.query('BEGIN');
    await raw.query(ENTER, [initech]);
    await raw.query(`DECLARE kept CURSOR WITH HOLD FOR ${SELECT}`);
    await raw.query('COMMIT');
    expect((await raw.query('FETCH ALL FROM kept')).rows).toEqual([{ label: initech }]);
  });

  it('a prepared statement, whose text may hold another’s values, is not to be listed, nor are locks', async () => {
    for (const view of ['pg_prepared_statements', 'pg_stat_activity', 'pg_locks'])
      for (const on of [scoped, raw] as readonly Queryable[])
        expect([view, await codeOf(on.query(`SELECT * FROM ${view}`))]).toEqual([view, '42501']);
  });

  it('a lock of the session, the seed of random numbers, the number that a sequence gave last, a notification and a large object are refused by the server', async () => {
    for (const text of [
      'SELECT pg_advisory_lock(1)',
      'SELECT pg_try_advisory_lock_shared(1, 2)',
      `SELECT lo_from_bytea(0, 'kept')`,
      'SELECT lo_create(0)',
      `SELECT lo_put(1, 0, 'kept')`,
      'SELECT lo_unlink(1)',
      `SELECT pg_notify('tenantry_tenant', '${initech}')`,
      'SELECT setseed(0.5)',
      'SELECT lastval()',
      `SELECT currval('pg_class')`,
      'SELECT pg_terminate_backend(pg_backend_pid(), 0)',
      'SELECT pg_cancel_backend(pg_backend_pid())',
    ]) {
      expect([text, await codeOf(scoped.query(text))]).toEqual([text, '42501']);
      expect([text, await codeOf(raw.query(text))]).toEqual([text, '42501']);
    }
    // Those of the transaction go with it.
    expect(await codeOf(scoped.query('SELECT pg_advisory_xact_lock(1)'))).toBe('nothing');
  });
});

describe('what is one for all tenants', () => {
  it('a plan is refused; the server would tell of the others’ rows and statements', async () => {
    await inACellOfItsOwn();
    await refusedBeforeItIsSent(`EXPLAIN ${SELECT}`);
    await refusedBeforeItIsSent(`EXPLAIN (ANALYZE, COSTS off) ${SELECT}`);
    await refusedBeforeItIsSent('EXPLAIN EXECUTE t1');
    await raw.query(`PREPARE others AS ${SELECT} WHERE label = 'a secret'`);
    await raw.query('BEGIN');
    // Whatever the statistics say: with an index only the tenant's own rows would be looked at.
    await raw.query('SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off');
    await raw.query(ENTER, [acme]);
    const told = async (text: string): Promise<string> => JSON.stringify((await raw.query(text)).rows);
    expect(await told(`EXPLAIN ANALYZE ${SELECT} WHERE id = 1`)).toContain('Rows Removed by Filter: 1');
    expect(await told('EXPLAIN EXECUTE others')).toContain('a secret');
  });

  it('a lock of a table is refused; the server would have every tenant wait for it', async () => {
    await refusedBeforeItIsSent('LOCK TABLE app.things IN ACCESS EXCLUSIVE MODE');
    await raw.query('BEGIN; LOCK TABLE app.things IN ACCESS EXCLUSIVE MODE');
    expect(await codeOf(scoped.query({ text: SELECT, timeoutMs: 50 }))).toBe('57014');
  });
});

describe('a context that changes in the middle of a query', () => {
  it.each([
    ['set_config', `SELECT set_config('app.tenant_id', $1, true), label FROM app.things`, '42501'],
    [
      'a sub-select',
      `SELECT label FROM app.things, (SELECT set_config('app.tenant_id', $1, true)) s`,
      '42501',
    ],
    ['an update of settings', `UPDATE pg_settings SET setting = $1 WHERE name = 'app.tenant_id'`, '42501'],
    ['a time-out', `UPDATE pg_settings SET setting = $1 WHERE name = 'work_mem'`, '42501'],
    ['entering', `SELECT tenantry.enter($1, NULL, NULL), label FROM app.things`, 'TN001'],
    ['entering by token', `SELECT tenantry.enter_with_token($1, NULL, NULL), label FROM app.things`, 'TN001'],
    ['entering alone', `SELECT tenantry.enter_alone($1), label FROM app.things`, 'TN001'],
    ['entering alone by token', `SELECT tenantry.enter_alone_with_token($1), label FROM app.things`, 'TN001'],
    [
      'entering in a CTE',
      `WITH e AS MATERIALIZED (SELECT tenantry.enter($1, NULL, NULL)) SELECT label FROM e, app.things`,
      'TN001',
    ],
    [
      'SQL within SQL',
      `SELECT query_to_xml('SET LOCAL app.tenant_id = ' || quote_literal($1::text), true, true, '')`,
      '0A000',
    ],
    [
      'a query within SQL',
      `SELECT query_to_xml('SELECT tenantry.enter(' || quote_literal($1::text) || ', NULL, NULL)', true, true, '')`,
      'TN001',
    ],
  ])('by %s gives none of the other’s rows', async (_, text, code) => {
    expect(await codeOf(scoped.query(text, [initech]))).toBe(code);
    expect(await codeOf(scoped.transaction((tx) => tx.query(text, [initech])))).toBe(code);
    await raw.query('BEGIN');
    await raw.query(ENTER, [acme]);
    expect(await codeOf(raw.query(text, [initech]))).toBe(code);
    await raw.query('ROLLBACK');
    expect(await labels(scoped)).toEqual([acme]);
  });

  it('by an anonymous block is refused; the server would run it', async () => {
    const block = `DO $$ BEGIN SET LOCAL app.tenant_id = '${initech}'; END $$`;
    await refusedBeforeItIsSent(block);
    await raw.query('BEGIN');
    await raw.query(ENTER, [acme]);
    await raw.query(block);
    expect(await labels(raw)).toEqual([initech]);
  });
});

describe('a key', () => {
  const PART = 'INSERT INTO app.parts (tenant_id, id, thing_id) VALUES ($1, 1, $2)';
  const THING = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';
  // The cell is the whole file's, and its keys are what may be wrong: each test has a label of its own.
  const secret = (): string => `secret of ${initech}`;
  beforeEach(() => cell.admin.query(THING, [initech, 77, secret()]));

  it('of another tenant’s parent is none', async () => {
    expect(await codeOf(scoped.query(PART, [acme, 77]))).toBe('23503');
    expect(await codeOf(scoped.query(PART, [initech, 77]))).toBe('42501');
    // A superuser, whom no policy binds, is bound by it too.
    expect(await codeOf(cell.admin.query(PART, [acme, 77]))).toBe('23503');
    expect(await codeOf(scoped.query(PART, [acme, 1]))).toBe('nothing');
  });

  it('that is unique tells nothing of another tenant’s', async () => {
    expect(await codeOf(scoped.query(THING, [acme, 77, secret()]))).toBe('nothing');
    expect(await codeOf(scoped.query(THING, [acme, 78, secret()]))).toBe('23505');
    expect(await codeOf(scoped.query(`${THING} ON CONFLICT DO NOTHING`, [initech, 77, 'x']))).toBe('42501');
  });
});

describe('a view', () => {
  it('with the rights of the tables’ owner shows nothing, as the policies bind the owner as well', async () => {
    await inACellOfItsOwn();
    await cell.admin.query(`
      SET ROLE tenantry_owner;
      CREATE VIEW app.owners AS SELECT label FROM app.things;
      CREATE VIEW app.invokers WITH (security_invoker = true) AS SELECT label FROM app.things;
      GRANT SELECT ON app.owners, app.invokers TO tenantry_runtime;
      RESET ROLE`);
    expect((await scoped.query('SELECT * FROM app.owners')).rows).toEqual([]);
    expect((await scoped.query('SELECT * FROM app.invokers')).rows).toEqual([{ label: acme }]);
    await raw.query('BEGIN');
    await raw.query(ENTER, [acme]);
    expect((await raw.query('SELECT * FROM app.owners')).rows).toEqual([]);
  });

  it('of the tables’ owner shows everything where FORCE was taken away', async () => {
    await inACellOfItsOwn();
    await cell.admin.query(`
      ALTER TABLE app.things NO FORCE ROW LEVEL SECURITY;
      SET ROLE tenantry_owner;
      CREATE VIEW app.owners AS SELECT label FROM app.things;
      GRANT SELECT ON app.owners TO tenantry_runtime;
      RESET ROLE`);
    expect((await scoped.query('SELECT * FROM app.owners')).rows).toHaveLength(2);
  });
});
