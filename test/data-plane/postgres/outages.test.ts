/** Connections cut, servers away, all connections in use, tenants suspended: what a statement on its way then gets. */
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import type { RunningServer } from '../../../local/server.js';
import { ConnectionLost } from '../../../tenancy/postgres/connection.js';
import type { ScopedPostgres, ScopedPostgresPool } from '../../../tenancy/postgres/scoped.js';
import { GRACE_MS } from '../../../tenancy/postgres/transaction.js';
import { openLink } from '../../support/link.js';
import { type OwnServers, startOwnServers } from '../../support/servers.js';
import { until } from '../../support/until.js';
import { codeOf, isRunning, openCell, type TestCell } from './support.js';

let cell: TestCell;
let acme: TenantId;
beforeAll(async () => {
  cell = await openCell();
});
beforeEach(async () => {
  acme = await cell.tenant();
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

const SELECT = 'SELECT label FROM app.things';
const INSERT = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';
const terminate = (): Promise<unknown> =>
  cell.admin.query(
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'tenantry_runtime'`,
  );

describe('a connection that is cut', () => {
  it('while nobody uses it is replaced without a word', async () => {
    const scoped = cell.scoped(acme, { connections: 1, interactive: 1 });
    await scoped.query(SELECT);
    await scoped.transaction((tx) => tx.query(SELECT));
    await terminate();
    // The cut is heard of in its own time; until then a statement may still be sent into it.
    await until('it is answered', async () => (await codeOf(scoped.query(SELECT))) === 'nothing');
    await until(
      'so is a transaction',
      async () => (await codeOf(scoped.transaction((tx) => tx.query(SELECT)))) === 'nothing',
    );
  });

  it('under statements says of each that it may have run', async () => {
    const scoped = cell.scoped(acme, { connections: 1 });
    const errors = Promise.all(
      ['SELECT pg_sleep(600)', SELECT, SELECT].map((text) =>
        scoped.query(text).then(
          () => undefined,
          (error: unknown) => error,
        ),
      ),
    );
    await until('it runs', () => isRunning(cell, 'pg_sleep(600)'));
    await terminate();
    for (const error of await errors) {
      expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true });
      expect((error as Error).cause).toBeInstanceOf(ConnectionLost);
    }
    expect((await scoped.query(SELECT)).rowCount).toBe(1);
  });

  it('under a transaction rolls it back', async () => {
    const scoped = cell.scoped(acme, { interactive: 1 });
    const cut = scoped.transaction(async (tx) => {
      await tx.query(INSERT, [acme, 2, 'two']);
      await terminate();
      await tx.query(SELECT);
    });
    expect(await codeOf(cut)).toBe('STORE_UNAVAILABLE');
    const slow = scoped.transaction(async (tx) => {
      await tx.query(INSERT, [acme, 2, 'two']);
      await tx.query('SELECT pg_sleep(600)');
    });
    const outcome = codeOf(slow);
    await until('it runs', () => isRunning(cell, 'pg_sleep(600)'));
    await terminate();
    expect(await outcome).toBe('STORE_UNAVAILABLE');
    expect((await scoped.transaction((tx) => tx.query(SELECT))).rowCount).toBe(1);
  });
});

describe('a connection that goes dumb when it has just logged in', () => {
  it.each([false, true])(
    'is given up in time, and the next is another (dedicated: %s)',
    async (dedicated) => {
      const link = await openLink(cell.url('runtime'));
      const pool = cell.pool({ url: link.url, connections: 1, interactive: 1, acquireTimeoutMs: 500 });
      const query = { text: SELECT, dedicated };
      const prototype = pg.Client.prototype as unknown as { connect(this: pg.Client): Promise<void> };
      const { connect } = prototype;
      jest.spyOn(prototype, 'connect').mockImplementationOnce(async function (this: pg.Client) {
        await connect.call(this);
        link.hold();
      });
      try {
        expect(await codeOf(pool.forTenant({ tenantId: acme }).query(query))).toBe('STORE_UNAVAILABLE');
        const answered = async (): Promise<boolean> =>
          (await codeOf(pool.forTenant({ tenantId: acme }).query(query))) === 'nothing';
        await until('another one is open', answered, 2_000);
        await pool.close();
      } finally {
        await link.close();
      }
    },
  );
});

describe('connections that are all in use', () => {
  it('make statements wait, as many as may, and those beyond are told', async () => {
    const scoped = cell.scoped(acme, {
      connections: 1,
      maxInFlight: 2,
      maxQueued: 1,
      acquireTimeoutMs: 300,
    });
    await scoped.query(SELECT);
    const lock = await cell.raw('owner');
    await lock.query('BEGIN; LOCK TABLE app.things IN ACCESS EXCLUSIVE MODE');
    const held = [codeOf(scoped.query(SELECT)), codeOf(scoped.query(SELECT))];
    const waiting = codeOf(scoped.query(SELECT));
    expect(await codeOf(scoped.query(SELECT))).toBe('CLIENTS_EXHAUSTED');
    // One that waits does not wait for ever.
    expect(await waiting).toBe('CLIENTS_EXHAUSTED');
    await lock.query('ROLLBACK');
    expect(await Promise.all(held)).toEqual(['nothing', 'nothing']);
    expect(await codeOf(scoped.query(SELECT))).toBe('nothing');
  });

  it('are sent nothing more behind a statement that has stood for a second', async () => {
    const pool = cell.pool({ connections: 2, acquireTimeoutMs: 300 });
    const [one, other] = [
      pool.forTenant({ tenantId: acme }),
      pool.forTenant({ tenantId: await cell.tenant() }),
    ];
    const lock = await cell.raw('owner');
    await lock.query('BEGIN; LOCK TABLE app.things IN ACCESS EXCLUSIVE MODE');
    const stands = (count: number) =>
      until(`${count} stand`, async () => {
        const { rowCount } = await cell.admin.query(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
              AND query_start < clock_timestamp() - interval '1.1 s'`,
        );
        return rowCount === count;
      });
    const first = codeOf(one.query(SELECT));
    await stands(1);
    // There is room behind it, and another connection to be had.
    expect((await other.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    const second = codeOf(one.query(SELECT));
    await stands(2);
    expect(await codeOf(other.query('SELECT 1 AS one'))).toBe('CLIENTS_EXHAUSTED');
    await lock.query('ROLLBACK');
    expect(await Promise.all([first, second])).toEqual(['nothing', 'nothing']);
    expect(await codeOf(other.query(SELECT))).toBe('nothing');
  });

  it('make transactions wait, and the next has one when it is free', async () => {
    const scoped = cell.scoped(acme, { interactive: 1, acquireTimeoutMs: 300 });
    await scoped.transaction(async () => {
      expect(await codeOf(scoped.transaction((tx) => tx.query(SELECT)))).toBe('CLIENTS_EXHAUSTED');
      const abort = new AbortController();
      const waiting = codeOf(scoped.query({ text: SELECT, signal: abort.signal }));
      abort.abort(Object.assign(new Error('enough'), { code: 'ENOUGH' }));
      expect(await waiting).toBe('ENOUGH');
    });
    const both = await Promise.all([1, 2].map(() => scoped.transaction((tx) => tx.query(SELECT))));
    expect(both.map(({ rowCount }) => rowCount)).toEqual([1, 1]);
  });
});

describe('a tenant whose gate closes', () => {
  let scoped: ScopedPostgres;
  beforeEach(() => {
    scoped = cell.scoped(acme);
  });
  const write = (id: number): Promise<unknown> => scoped.query(INSERT, [acme, id, `thing ${id}`]);

  it('to read-only reads and fails to write', async () => {
    await write(2);
    await cell.gate(acme, 'read-only');
    expect((await scoped.query(SELECT)).rowCount).toBe(2);
    expect(await codeOf(write(3))).toBe('42501');
    expect(await codeOf(scoped.query('UPDATE app.things SET label = $1', ['x']))).toBe('42501');
    expect(await scoped.query('DELETE FROM app.things')).toMatchObject({ rowCount: 0 });
    await cell.gate(acme, 'open');
    await write(3);
  });

  it('altogether sees nothing and writes nothing', async () => {
    await cell.gate(acme, 'blocked');
    expect((await scoped.query(SELECT)).rowCount).toBe(0);
    expect(await codeOf(write(2))).toBe('42501');
    expect(await scoped.query('UPDATE app.things SET label = $1', ['x'])).toMatchObject({ rowCount: 0 });
  });

  it('in the middle of a transaction feels it at its next statement', async () => {
    const outcome = scoped.transaction(async (tx) => {
      await tx.query(INSERT, [acme, 2, 'two']);
      await cell.gate(acme, 'blocked');
      expect((await tx.query(SELECT)).rowCount).toBe(0);
      await tx.query(INSERT, [acme, 3, 'three']);
    });
    expect(await codeOf(outcome)).toBe('42501');
  });

  it('in the middle of one that keeps its snapshot, and with it the gate, ends it when its time is up', async () => {
    const pool = cell.pool({ snapshotMs: 2_000 });
    const limited = async () => {
      const tenantId = await cell.tenant();
      return { tenantId, on: pool.forTenant({ tenantId }) };
    };
    const keepsItsSnapshot = async (isolation: 'repeatable read' | 'serializable'): Promise<void> => {
      const { tenantId, on } = await limited();
      const outcome = on.transaction(
        async (tx) => {
          await tx.query(SELECT);
          await cell.gate(tenantId, 'blocked');
          // The server knows no better than its snapshot.
          expect((await tx.query(SELECT)).rowCount).toBe(1);
          await tx.query(INSERT, [tenantId, 2, 'late']);
          await tx.query('SELECT pg_sleep(10)');
        },
        { isolation },
      );
      expect(await codeOf(outcome)).toBe('STORE_REFUSED');
      await cell.gate(tenantId, 'open');
      expect((await on.query(SELECT)).rowCount).toBe(1);
    };
    const keepsItInThePool = async (): Promise<void> => {
      const pooled = await (await limited()).on.pool.connect();
      await pooled.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      expect(await codeOf(pooled.query('SELECT pg_sleep(10)'))).toBe('STORE_REFUSED');
      expect(await codeOf(pooled.query('COMMIT'))).toBe('STORE_REFUSED');
      pooled.release();
    };
    // A cursor's snapshot is that of its beginning, whatever its transaction's isolation.
    const keepsACursor = async (): Promise<void> => {
      const { tenantId, on } = await limited();
      const outcome = on.transaction(async (tx) => {
        await tx.query(INSERT, [tenantId, 2, 'two']);
        await tx.query(`DECLARE kept CURSOR FOR ${SELECT}`);
        expect((await tx.query('FETCH 1 FROM kept')).rowCount).toBe(1);
        await cell.gate(tenantId, 'blocked');
        expect((await tx.query('FETCH 1 FROM kept')).rowCount).toBe(1);
        await tx.query('SELECT pg_sleep(10)');
      });
      expect(await codeOf(outcome)).toBe('STORE_REFUSED');
    };
    // The others look at the gate anew with each statement, and take their time.
    const looksAnew = async (): Promise<void> => {
      const { on } = await limited();
      expect(await codeOf(on.transaction((tx) => tx.query('SELECT pg_sleep(2.2)')))).toBe('nothing');
    };
    await Promise.all([
      keepsItsSnapshot('repeatable read'),
      keepsItsSnapshot('serializable'),
      keepsItInThePool(),
      keepsACursor(),
      looksAnew(),
    ]);
  });

  it('while many statements are under way: each saw all of it or nothing, and those after it nothing', async () => {
    const counts: (number | null)[] = [];
    const stop = new AbortController();
    const callers = Array.from({ length: 8 }, async () => {
      while (!stop.signal.aborted) counts.push((await scoped.query(SELECT)).rowCount);
    });
    await until('they are at work', () => counts.length > 50);
    await cell.gate(acme, 'blocked');
    expect((await scoped.query(SELECT)).rowCount).toBe(0);
    stop.abort();
    await Promise.all(callers);
    expect(new Set(counts)).toEqual(new Set([1, 0]));
  });
});

describe('a server', () => {
  let servers: OwnServers<'cell'>;
  let server: RunningServer;
  let own: TestCell;
  let pool: ScopedPostgresPool;
  let scoped: ScopedPostgres;
  beforeAll(async () => {
    servers = await startOwnServers(['cell']);
    server = servers.servers.cell;
    own = await openCell({ adminUrl: server.url });
    pool = own.pool({ acquireTimeoutMs: 1_000, statementTimeoutMs: 500 });
    scoped = pool.forTenant({ tenantId: await own.tenant() });
  });
  afterAll(async () => {
    await pool.close();
    await own.control.end();
    await servers.close();
  });

  it('that hangs is given up some time after its statements should have been', async () => {
    await scoped.query(SELECT);
    await scoped.transaction((tx) => tx.query(SELECT));
    server.pause();
    const codes = await Promise.all([
      codeOf(scoped.query(SELECT)),
      codeOf(scoped.query({ text: SELECT, dedicated: true })),
      codeOf(scoped.transaction((tx) => tx.query(SELECT))),
    ]);
    server.resume();
    expect(codes).toEqual(['STORE_UNAVAILABLE', 'STORE_UNAVAILABLE', 'STORE_UNAVAILABLE']);
    expect((await scoped.query(SELECT)).rowCount).toBe(1);
  });

  it('whose answers a process finds that stood still for longer has not hung', async () => {
    const dedicated = { text: SELECT, dedicated: true };
    // Connections for each.
    await scoped.transaction(() => Promise.all([scoped.query(SELECT), scoped.query(dedicated)]));
    const codes = await scoped.transaction(async (tx) => {
      const asked = [scoped.query(SELECT), scoped.query(dedicated), tx.query(SELECT)].map(codeOf);
      // Then the first has been written, and not all of the others.
      await new Promise(setImmediate);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500 + GRACE_MS + 300);
      return Promise.all(asked);
    });
    expect(codes).toEqual(['nothing', 'nothing', 'nothing']);
  });

  it('that hangs keeps no pool from being closed', async () => {
    const closing = own.pool({ statementTimeoutMs: 500 });
    const on = closing.forTenant({ tenantId: await own.tenant() });
    await Promise.all([on.query(SELECT), on.query({ text: SELECT, dedicated: true })]);
    server.pause();
    const lost = codeOf(on.query(SELECT));
    await closing.close().finally(() => server.resume());
    expect(await lost).toBe('STORE_UNAVAILABLE');
  });

  it('that is away is said to be, and found again when it is back', async () => {
    const cut = codeOf(scoped.query({ text: 'SELECT pg_sleep(600)', timeoutMs: 0 }));
    await until('it runs', () => isRunning(own, 'pg_sleep(600)'));
    await server.stop();
    expect(await cut).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(scoped.query(SELECT))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(scoped.transaction((tx) => tx.query(SELECT)))).toBe('STORE_UNAVAILABLE');
    expect(await codeOf(scoped.query({ text: SELECT, dedicated: true }))).toBe('STORE_UNAVAILABLE');
    await server.start();
    expect((await scoped.query(SELECT)).rowCount).toBe(1);
    expect((await scoped.transaction((tx) => tx.query(SELECT))).rowCount).toBe(1);
  });
});
