/** What a tool may do with a pg.Pool and its clients, done with the one of a tenant. */
import type { Pool, PoolClient } from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import { enterTenant, findCurrentTenant, type Tenant } from '../../../tenancy/context/tenant-context.js';
import { tenantPool } from '../../../tenancy/index.js';
import type { ScopedPostgresPool } from '../../../tenancy/postgres/scoped.js';
import { codeOf, openCell, type TestCell } from './support.js';

let cell: TestCell;
let scoped: ScopedPostgresPool;
let acme: TenantId;
let globex: TenantId;
const pool: Pool = tenantPool();

beforeAll(async () => {
  cell = await openCell();
  // One connection for transactions: what is not given back is missed by the next.
  scoped = cell.pool({ interactive: 1, acquireTimeoutMs: 2_000 });
});
afterAll(() => cell.close());
beforeEach(async () => {
  [acme, globex] = [await cell.tenant(), await cell.tenant()];
});

const as = <T>(tenantId: TenantId, work: () => T): T =>
  enterTenant({ tenantId, pg: scoped.forTenant({ tenantId }) } as unknown as Tenant, work);

const LABELS = 'SELECT label FROM app.things ORDER BY id';
const ADD = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';
const labels = async (on: Pool | PoolClient): Promise<unknown[]> =>
  (await on.query<{ label: string }>(LABELS)).rows.map(({ label }) => label);

test('a query is given as text, as text with values, or as a config, and answered by a promise or a callback', async () => {
  await as(acme, async () => {
    expect(await labels(pool)).toEqual([acme]);
    const text = 'SELECT label FROM app.things WHERE id = $1';
    expect((await pool.query(text, [1])).rows).toEqual([{ label: acme }]);
    expect((await pool.query({ text, values: [1], name: 'by-id' })).rows).toEqual([{ label: acme }]);
    expect((await pool.query({ text, rowMode: 'array' }, [1])).rows).toEqual([[acme]]);
    const types = { getTypeParser: () => (value: string) => `<${value}>` };
    expect((await pool.query({ text, types }, [1])).rows).toEqual([{ label: `<${acme}>` }]);

    const called = (...args: unknown[]) =>
      new Promise((resolve) => {
        const query = pool.query as unknown as (...args: unknown[]) => void;
        query.call(pool, ...args, (error: { code?: string } | null, result?: { rows: unknown[] }) =>
          // The tenant of who asked, wherever the answer came from.
          resolve([error?.code, result?.rows, findCurrentTenant()?.tenantId]),
        );
      });
    expect(await called(text, [1])).toEqual([undefined, [{ label: acme }], acme]);
    expect(await called('SELECT 1/0')).toEqual(['22012', undefined, acme]);
    expect(await called('VACUUM')).toEqual(['STATEMENT_REFUSED', undefined, acme]);
  });
});

test('a client is connected by a promise or a callback, whose third argument gives it back', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    expect(await labels(client)).toEqual([acme]);
    client.release();
    const released = await new Promise<PoolClient>((resolve, reject) => {
      pool.connect((error, other, release) => {
        if (other === undefined) return reject(error ?? new Error('no client'));
        expect(findCurrentTenant()?.tenantId).toBe(acme);
        release();
        resolve(other);
      });
    });
    expect(await codeOf(released.query('SELECT 1'))).toBe('STATEMENT_REFUSED');
  });
});

test('statements of one client run one after the other, as they were given', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    const results = await Promise.all([
      client.query('BEGIN'),
      client.query(ADD, [acme, 2, 'two']),
      client.query('UPDATE app.things SET label = $1 WHERE id = 2', ['second']),
      labels(client),
      client.query('COMMIT'),
    ]);
    client.release();
    expect(results[3]).toEqual([acme, 'second']);
    expect([results[0], results[2], results[4]].map(({ command }) => command)).toEqual([
      'BEGIN',
      'UPDATE',
      'COMMIT',
    ]);
    expect(await labels(pool)).toEqual([acme, 'second']);
  });
});

test('what was asked before the release still runs, a commit included', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    const asked = [client.query('BEGIN'), client.query(ADD, [acme, 2, 'two']), client.query('COMMIT')];
    client.release();
    await Promise.all(asked);
    expect(await labels(pool)).toEqual([acme, 'two']);
  });
});

test('a transaction that is left open is rolled back by the release, and its connection serves the next', async () => {
  await as(acme, async () => {
    for (const destroy of [undefined, true, new Error('broken')]) {
      const client = await pool.connect();
      await client.query('BEGIN');
      await client.query(ADD, [acme, 2, 'two']);
      expect(await labels(client)).toEqual([acme, 'two']);
      client.release(destroy);
    }
    // Waits for the one connection.
    const next = await pool.connect();
    await next.query('BEGIN');
    expect(await labels(next)).toEqual([acme]);
    await next.query('ROLLBACK');
    next.release();
  });
});

test('a client that is kept after its release runs nothing, and a second release is an error', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    await client.query('BEGIN');
    client.release();
    for (const text of [LABELS, 'COMMIT', 'ROLLBACK', 'BEGIN'])
      expect(await codeOf(client.query(text))).toBe('STATEMENT_REFUSED');
    expect(() => client.release()).toThrow(expect.objectContaining({ code: 'STATEMENT_REFUSED' }));
  });
  // Somebody else's transaction on the same connection is not its either.
  await as(globex, async () => {
    const next = await pool.connect();
    await next.query('BEGIN');
    expect(await labels(next)).toEqual([globex]);
    await next.query('ROLLBACK');
    next.release();
  });
});

test('a client belongs to who connected it: in the context of another tenant it runs nothing', async () => {
  const client = await as(acme, () => pool.connect());
  await as(acme, () => client.query('BEGIN'));
  for (const text of [LABELS, 'COMMIT', 'ROLLBACK', 'SAVEPOINT a'])
    expect(await codeOf(as(globex, () => client.query(text)))).toBe('NESTED_TENANT_CONTEXT');
  expect(await as(acme, () => labels(client))).toEqual([acme]);
  // To give back is allowed from anywhere.
  as(globex, () => client.release());
  const next = await as(globex, () => pool.connect());
  await as(globex, () => next.query('BEGIN'));
  expect(await as(globex, () => labels(next))).toEqual([globex]);
  as(globex, () => next.release());
});

test('the pool of one tenant is refused in the context of another', async () => {
  const own = scoped.forTenant({ tenantId: acme }).pool;
  expect(await as(acme, () => labels(own))).toEqual([acme]);
  expect(await codeOf(as(globex, () => own.query(LABELS)))).toBe('NESTED_TENANT_CONTEXT');
  expect(await codeOf(as(globex, () => own.connect()))).toBe('NESTED_TENANT_CONTEXT');
});

test('without a tenant the pool of the current one has neither statements nor clients', async () => {
  expect(await codeOf(pool.query(LABELS))).toBe('NO_TENANT_CONTEXT');
  expect(await codeOf(pool.connect())).toBe('NO_TENANT_CONTEXT');
  const told = await new Promise<unknown>((resolve) => {
    pool.connect((error) => resolve((error as { code?: unknown } | undefined)?.code));
  });
  expect(told).toBe('NO_TENANT_CONTEXT');
});

test('clients outside of a transaction hold no connection', async () => {
  await as(acme, async () => {
    const busy = await pool.connect();
    await busy.query('BEGIN');
    const clients = await Promise.all(Array.from({ length: 50 }, () => pool.connect()));
    expect(await Promise.all(clients.map(labels))).toEqual(clients.map(() => [acme]));
    // The second transaction is one too many.
    expect(await codeOf((clients[0] as PoolClient).query('BEGIN'))).toBe('CLIENTS_EXHAUSTED');
    for (const client of [busy, ...clients]) client.release();
  });
});

test('after a failed statement a COMMIT is an error, and the client goes on with a new transaction', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    await client.query('BEGIN');
    await client.query(ADD, [acme, 2, 'two']);
    expect(await codeOf(client.query(ADD, [acme, 2, 'again']))).toBe('23505');
    expect(await codeOf(client.query(LABELS))).toBe('25P02');
    expect(await codeOf(client.query('COMMIT'))).toBe('STORE_REFUSED');
    await client.query('BEGIN');
    expect(await labels(client)).toEqual([acme]);
    await client.query('END');
    client.release();
  });
});

test('a transaction whose connection is cut says so and does not go on outside of it', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    await client.query('BEGIN');
    await client.query(ADD, [acme, 2, 'two']);
    await cell.admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'tenantry_runtime' AND xact_start IS NOT NULL`,
    );
    expect(await codeOf(client.query(ADD, [acme, 3, 'three']))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(client.query(ADD, [acme, 4, 'four']))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(client.query('COMMIT'))).toBe('STORE_UNAVAILABLE');
    client.release();
    expect(await labels(pool)).toEqual([acme]);
  });
});

test('a transaction in a transaction, an unknown form of one and what is no statement are refused', async () => {
  await as(acme, async () => {
    const client = await pool.connect();
    await client.query('/* a tool */ begin transaction isolation level serializable, read only;');
    expect((await client.query('SHOW_NOTHING').catch((error: unknown) => error)) as object).toMatchObject({
      code: 'STATEMENT_REFUSED',
    });
    for (const text of ['BEGIN', 'COMMIT AND CHAIN', "COMMIT PREPARED 'x'", 'BEGIN; SELECT 1'])
      expect(await codeOf(client.query(text))).toBe('STATEMENT_REFUSED');
    expect(await labels(client)).toEqual([acme]);
    await client.query('abort work');
    client.release();
    const refused = expect.objectContaining({ code: 'STATEMENT_REFUSED' });
    const anything = (query: unknown) => () => pool.query(query as string);
    expect(anything(undefined)).toThrow(refused);
    expect(anything({ values: [] })).toThrow(refused);
    expect(anything({ text: LABELS, submit: () => undefined })).toThrow(refused);
  });
});

test('the end of the pool ends nothing, for its connections are those of all', async () => {
  await as(acme, () => pool.end());
  await new Promise<void>((resolve) => {
    pool.end(resolve);
  });
  expect(await as(globex, () => labels(pool))).toEqual([globex]);
});

test('what was meant for a transaction that could not begin does not run alone', async () => {
  const pressed = cell.pool({ interactive: 1, acquireTimeoutMs: 1_000 }).forTenant({ tenantId: acme });
  await pressed.transaction(async () => {
    const client = await pressed.pool.connect();
    const codes = await Promise.all(
      [['BEGIN'], [ADD, [acme, 2, 'alone']], ['COMMIT'], [ADD, [acme, 3, 'after']]].map(([text, values]) =>
        codeOf(client.query(text as string, values as unknown[])),
      ),
    );
    expect(codes).toEqual(['CLIENTS_EXHAUSTED', 'STATEMENT_REFUSED', 'STORE_REFUSED', 'nothing']);
    expect(await codeOf(client.query('BEGIN'))).toBe('CLIENTS_EXHAUSTED');
    expect(await codeOf(client.query(LABELS))).toBe('STATEMENT_REFUSED');
    expect(await codeOf(client.query('ROLLBACK'))).toBe('nothing');
    expect(await labels(client)).toEqual([acme, 'after']);
    client.release();
  });
});
