/** Transactions of a tenant: how they end, what is left of them, and what their handles still do afterwards. */
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import type { ScopedPostgres, ScopedTransaction } from '../../../tenancy/postgres/scoped.js';
import { trappedSignal } from '../../support/trapped-signal.js';
import { until } from '../../support/until.js';
import { codeOf, isRunning, openCell, type TestCell } from './support.js';

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

const add = (tx: ScopedTransaction, id: number, tenant = acme): Promise<unknown> =>
  tx.query('INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)', [tenant, id, `thing ${id}`]);
const ids = async (scoped: Pick<ScopedPostgres, 'query'>): Promise<number[]> =>
  (await scoped.query<{ id: number }>('SELECT id FROM app.things ORDER BY id')).rows.map(({ id }) => id);

it('commits all of it when the work is done, and none of it when the work throws', async () => {
  const scoped = cell.scoped(acme);
  const result = await scoped.transaction(async (tx) => {
    await add(tx, 2);
    await add(tx, 3);
    // Nobody else sees it yet.
    expect(await ids(scoped)).toEqual([1]);
    return ids(tx);
  });
  expect(result).toEqual([1, 2, 3]);
  expect(await ids(scoped)).toEqual([1, 2, 3]);
  const failing = scoped.transaction(async (tx) => {
    await add(tx, 4);
    throw Object.assign(new Error('no'), { code: 'MINE' });
  });
  expect(await codeOf(failing)).toBe('MINE');
  expect(await ids(scoped)).toEqual([1, 2, 3]);
});

it('stays with its tenant, whatever runs beside it', async () => {
  const pool = cell.pool({ connections: 1, interactive: 2 });
  const tenants = [acme, initech];
  const seen = await Promise.all(
    Array.from({ length: 40 }, async (_, i) => {
      const tenant = tenants[i % 2] as TenantId;
      const work = pool.forTenant({ tenantId: tenant }).transaction(async (tx) => {
        const before = await tx.query<{ label: string }>('SELECT label FROM app.things');
        if (i % 5 === 0) await tx.query('SELECT 1 / 0');
        const after = await tx.query<{ label: string }>('SELECT label FROM app.things');
        return [...before.rows, ...after.rows].every(({ label }) => label === tenant);
      });
      return i % 5 === 0 ? codeOf(work) : work;
    }),
  );
  expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => (i % 5 === 0 ? '22012' : true)));
});

it('leaves a dead handle behind', async () => {
  const scoped = cell.scoped(acme);
  let kept: ScopedTransaction | undefined;
  await scoped.transaction(async (tx) => {
    kept = tx;
  });
  expect(await codeOf(kept?.query('SELECT 1') ?? Promise.resolve())).toBe('STATEMENT_REFUSED');
  await codeOf(
    scoped.transaction(async (tx) => {
      kept = tx;
      throw new Error('no');
    }),
  );
  expect(await codeOf(kept?.query('SELECT 1') ?? Promise.resolve())).toBe('STATEMENT_REFUSED');
});

it('that swallowed a failed statement does not pass for committed', async () => {
  const scoped = cell.scoped(acme);
  const swallowing = scoped.transaction(async (tx) => {
    await add(tx, 2);
    await codeOf(tx.query('SELECT 1 / 0'));
    expect(await codeOf(tx.query('SELECT 1'))).toBe('25P02');
  });
  expect(await codeOf(swallowing)).toBe('STORE_REFUSED');
  expect(await ids(scoped)).toEqual([1]);
});

it('that could not begin leaves nothing to whoever has its connection next', async () => {
  const pool = cell.pool({ interactive: 1 });
  const [a, b] = [pool.forTenant({ tenantId: acme }), pool.forTenant({ tenantId: initech })];
  const codes = new Set<string>();
  // Many: whether the server's error comes alone or with what is behind it, the network decides.
  for (let i = 0; i < 50; i++) {
    const [failed, next] = await Promise.all([
      codeOf(a.transaction(ids, { timeoutMs: 2 ** 31 })),
      codeOf(b.transaction(ids)),
    ]);
    codes.add(`${failed}, then ${next}`);
  }
  expect([...codes]).toEqual(['22003, then nothing']);
});

it('lets statements that were sent at once each have its time', async () => {
  const scoped = cell.scoped(acme, { statementTimeoutMs: 500 });
  const slept = scoped.transaction((tx) =>
    Promise.all(Array.from({ length: 4 }, () => tx.query('SELECT pg_sleep(0.3)'))),
  );
  expect(await slept).toHaveLength(4);
});

it('goes on behind a savepoint that it rolls back to', async () => {
  const scoped = cell.scoped(acme);
  await scoped.transaction(async (tx) => {
    await add(tx, 2);
    await tx.query('SAVEPOINT before');
    // With a time-out of its own: the transaction's is set again behind it, or the way back would be barred.
    expect(await codeOf(tx.query({ text: 'SELECT pg_sleep(30)', timeoutMs: 30 }))).toBe('57014');
    expect(await codeOf(tx.query('SELECT 1'))).toBe('25P02');
    await tx.query('ROLLBACK TO SAVEPOINT before');
    await tx.query('RELEASE SAVEPOINT before');
    await tx.query('SELECT pg_sleep(0.1)');
    await add(tx, 3);
  });
  expect(await ids(scoped)).toEqual([1, 2, 3]);
});

it('sees what is committed meanwhile, whatever sessions begin with, unless it asks for something else', async () => {
  const role = new URL(cell.url('runtime')).username;
  const { rows } = await cell.admin.query<{ name: string }>('SELECT quote_ident(current_database()) AS name');
  await cell.admin.query(
    `ALTER ROLE ${role} IN DATABASE ${rows[0]?.name} SET default_transaction_isolation = 'repeatable read'`,
  );
  const scoped = cell.pool().forTenant({ tenantId: acme });
  const isolation = (tx: Pick<ScopedPostgres, 'query'>) =>
    tx.query<{ it: string }>(`SELECT current_setting('transaction_isolation') AS it`);
  const levels = await Promise.all([
    isolation(scoped),
    scoped.transaction(isolation),
    scoped.transaction(isolation, { readOnly: true }),
    scoped.transaction(isolation, { isolation: 'serializable' }),
  ]);
  expect(levels.map((level) => level.rows[0]?.it)).toEqual([
    'repeatable read',
    'read committed',
    'read committed',
    'serializable',
  ]);
  const seen = await scoped.transaction(async (tx) => {
    const before = await ids(tx);
    await scoped.transaction((other) => add(other, 2));
    return [before, await ids(tx)];
  });
  expect(seen).toEqual([[1], [1, 2]]);
  await cell.admin.query(`ALTER ROLE ${role} IN DATABASE ${rows[0]?.name} RESET ALL`);
});

it('takes an isolation level and read only', async () => {
  const scoped = cell.scoped(acme);
  const modes = await scoped.transaction(
    async (tx) =>
      (
        await tx.query(`SELECT current_setting('transaction_isolation') AS isolation,
                               current_setting('transaction_read_only') AS ro`)
      ).rows[0],
    { isolation: 'serializable', readOnly: true },
  );
  expect(modes).toEqual({ isolation: 'serializable', ro: 'on' });
  expect(await codeOf(scoped.transaction((tx) => add(tx, 2), { readOnly: true }))).toBe('25006');
  const lost = Promise.all(
    [2, 3].map((id) =>
      scoped.transaction(
        async (tx) => {
          await tx.query('SELECT count(*) FROM app.things');
          await add(tx, id);
        },
        { isolation: 'serializable' },
      ),
    ),
  );
  // One of the two, as each counted without the other; or none, where one was done before the other began.
  expect(['40001', 'nothing']).toContain(await codeOf(lost));
});

it('reads with a cursor, but not WITH HOLD', async () => {
  const scoped = cell.scoped(acme);
  const fetched = await scoped.transaction(async (tx) => {
    await tx.query('DECLARE c CURSOR FOR SELECT id FROM app.things');
    return (await tx.query('FETCH 10 FROM c')).rows;
  });
  expect(fetched).toEqual([{ id: 1 }]);
  for (const text of [
    'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    'DECLARE c CURSOR WITH/**/HOLD FOR SELECT 1',
    'COMMIT',
    'ROLLBACK',
    'ROLLBACK AND CHAIN',
    'PREPARE TRANSACTION $$x$$',
    'SET LOCAL app.tenant_id = 1',
    'SET CONSTRAINTS ALL DEFERRED',
  ])
    expect([text, await codeOf(scoped.transaction((tx) => tx.query(text)))]).toEqual([
      text,
      'STATEMENT_REFUSED',
    ]);
});

it('gives each statement its time, which can be shorter than usual and not longer', async () => {
  const scoped = cell.scoped(acme, { statementTimeoutMs: 300 });
  const code = (work: (tx: ScopedTransaction) => Promise<unknown>, timeoutMs?: number): Promise<string> =>
    codeOf(scoped.transaction(work, { timeoutMs }));
  expect(await code((tx) => tx.query('SELECT pg_sleep(30)'))).toBe('57014');
  expect(await code((tx) => tx.query({ text: 'SELECT pg_sleep(30)', timeoutMs: 20 }))).toBe('57014');
  expect(await code((tx) => tx.query({ text: 'SELECT 1', timeoutMs: 400 }))).toBe('STATEMENT_REFUSED');
  expect(await code((tx) => tx.query({ text: 'SELECT 1', timeoutMs: 0 }))).toBe('STATEMENT_REFUSED');
  expect(await code((tx) => tx.query('SELECT pg_sleep(0.4)'), 20_000)).toBe('nothing');
});

it('keeps its time whatever a statement of it says to the server', async () => {
  const scoped = cell.scoped(acme, { statementTimeoutMs: 200 });
  for (const longer of [0, 600_000]) {
    const work = scoped.transaction(async (tx) => {
      await tx.query({ text: 'SELECT 1', timeoutMs: 50 });
      await tx.query('SELECT tenantry.enter($1, $2, $2)', [acme, longer]);
      const { rows } = await tx.query(`SELECT current_setting('statement_timeout') AS statement,
        current_setting('idle_in_transaction_session_timeout') AS idle`);
      expect(rows).toEqual([{ statement: '200ms', idle: '1min' }]);
      await tx.query('SELECT pg_sleep(30)');
    });
    expect(await codeOf(work)).toBe('57014');
  }
});

it('is rolled back by its signal while a statement runs, and its work told so at the next', async () => {
  const scoped = cell.scoped(acme, { interactive: 1 });
  const abort = new AbortController();
  let within: Promise<string> | undefined;
  const work = scoped.transaction(
    async (tx) => {
      await add(tx, 2);
      within = codeOf(tx.query('SELECT pg_sleep(600)')).then(() => codeOf(tx.query('SELECT 1')));
      await within;
    },
    { signal: abort.signal, timeoutMs: 0 },
  );
  const outcome = codeOf(work);
  await until('it runs', () => isRunning(cell, 'pg_sleep(600)'));
  abort.abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
  expect(await outcome).toBe('ENOUGH');
  await until('it has ended', async () => !(await isRunning(cell, 'pg_sleep(600)')));
  expect(await within).toBe('STATEMENT_REFUSED');
  expect(await ids(scoped)).toEqual([1]);
  // The one connection that there may be is free again.
  expect(await scoped.transaction(ids)).toEqual([1]);
});

it('hears a signal whose own methods throw, and its connection is free again', async () => {
  const scoped = cell.scoped(acme, { interactive: 1 });
  for (const from of [1, 2]) {
    const { signal } = trappedSignal(from);
    expect((await scoped.query({ text: 'SELECT 1 AS one', signal })).rows).toEqual([{ one: 1 }]);
    expect(await codeOf(scoped.query({ text: 'SELECT 1 / 0', signal }))).toBe('22012');
  }
  const { signal, abort } = trappedSignal();
  const outcome = codeOf(scoped.query({ text: 'SELECT pg_sleep(601)', signal, timeoutMs: 0 }));
  await until('it runs', () => isRunning(cell, 'pg_sleep(601)'));
  abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
  expect(await outcome).toBe('ENOUGH');
  expect(await scoped.transaction(ids)).toEqual([1]);
});

it('that its signal meets while it begins on a server that hangs is over at once', async () => {
  const scoped = cell.scoped(acme, { interactive: 1 });
  const { rows } = await scoped.transaction((tx) =>
    tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid'),
  );
  const backend = rows[0]?.pid ?? 0;
  const abort = new AbortController();
  process.kill(backend, 'SIGSTOP');
  try {
    const work = jest.fn(ids);
    const outcome = codeOf(scoped.transaction(work, { signal: abort.signal, timeoutMs: 0 }));
    // Its BEGIN has been sent.
    await new Promise(setImmediate);
    abort.abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
    expect(await outcome).toBe('ENOUGH');
    expect(work).not.toHaveBeenCalled();
  } finally {
    process.kill(backend, 'SIGCONT');
  }
  expect(await scoped.transaction(ids)).toEqual([1]);
});

it('that is forgotten is ended by the server', async () => {
  const scoped = cell.scoped(acme, { transactionIdleMs: 50, interactive: 1 });
  const forgotten = scoped.transaction(async (tx) => {
    await add(tx, 2);
    await until(
      'the server has ended it',
      async () =>
        (
          await cell.admin.query(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`,
          )
        ).rowCount === 0,
    );
    await tx.query('SELECT 1');
  });
  expect(await codeOf(forgotten)).toBe('STORE_UNAVAILABLE');
  expect(await scoped.transaction(ids)).toEqual([1]);
});

it('that is never ended by its work leaves its connection to the next when the server has ended it', async () => {
  const scoped = cell.scoped(acme, { transactionIdleMs: 50, interactive: 1, acquireTimeoutMs: 3_000 });
  let heard: Promise<string> | undefined;
  let wake = (): void => undefined;
  const next = new Promise<void>((resolve) => (wake = resolve));
  const begun = new Promise<void>((resolve) => {
    void scoped.transaction(async (tx) => {
      await add(tx, 2);
      heard = next.then(() => codeOf(tx.query('SELECT 1')));
      resolve();
      await new Promise<never>(() => undefined);
    });
  });
  await begun;
  expect(await scoped.transaction(ids)).toEqual([1]);
  // One that comes back to it all the same is told, and takes nothing of whoever has the place now.
  await scoped.transaction(async (tx) => {
    wake();
    expect(await heard).toBe('STORE_UNAVAILABLE');
    expect(await ids(tx)).toEqual([1]);
  });
});

it('gives the errors of the server as they are', async () => {
  const error: unknown = await cell
    .scoped(acme)
    .transaction((tx) => tx.query('SELECT 1 / 0'))
    .catch((e: unknown) => e);
  expect(error).toBeInstanceOf(pg.DatabaseError);
});
