/**
 * The real PgBouncer in transaction mode, where a connection to the server is another client's after each transaction.
 * What the installed one cannot do is skipped, and printed.
 */
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import type { Found } from '../../../local/find.js';
import type {
  ScopedPostgres,
  ScopedPostgresOptions,
  ScopedPostgresPool,
} from '../../../tenancy/postgres/scoped.js';
import { findPgBouncer, mayPipeline, type PgBouncer, startPgBouncer } from '../../support/pgbouncer.js';
import { openLink } from '../../support/link.js';
import { until } from '../../support/until.js';
import { openLateReady } from './late-ready.js';
import { codeOf, connect, openCell, running, type TestCell } from './support.js';

/** Connections to the server, for many more clients. */
const SERVERS = 3;
const TENANTS = 25;
/** How much later a server is ready than it says why a statement fails. */
const LATE_MS = 6;
const LABEL = 'SELECT label FROM app.things WHERE id = 1';
const ADD = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';

interface Behind {
  readonly bouncer: PgBouncer;
  readonly tenants: readonly TenantId[];
  readonly scoped: ScopedPostgresPool;
  /** Many statements under way on each connection. */
  readonly pipelined: ScopedPostgresPool;
}

let cell: TestCell;
let found: Found | undefined;
let pipelines = false;

// It may have to be installed.
beforeAll(async () => {
  found = await findPgBouncer();
  pipelines = found !== undefined && mayPipeline(found);
}, 300_000);
beforeAll(async () => {
  cell = await openCell();
});
afterEach(() => cell.settle());
afterAll(() => cell.close());

describe.each([
  ['without prepared statements', false],
  ['with the prepared statements of 1.22.1 and later', true],
])('%s', (_name, prepare) => {
  test('3,000 statements of many tenants at once, pipelined, all meet their own rows', () =>
    behind(prepare, async ({ tenants, pipelined }) => {
      const wrong: unknown[] = [];
      await interleaved(tenants, 3_000, async (tenant, i) => {
        // More texts than stay prepared.
        const { rows } = await labelOf(pipelined, tenant, `${LABEL} AND ${i % 5} = $1`, [i % 5]);
        if (rows.length !== 1 || rows[0]?.label !== tenant) wrong.push(rows);
      });
      expect(wrong).toEqual([]);
      // They were many on few, or this would prove nothing.
      const servers = await serversOf(cell);
      expect(servers).toBeGreaterThan(0);
      expect(servers).toBeLessThanOrEqual(SERVERS);
    }));

  test('one statement after the other on one connection, each of another tenant, meets its own rows', () =>
    behind(prepare, async ({ tenants, scoped }) => {
      for (let i = 0; i < 200; i++) {
        const tenant = tenants[i % TENANTS] as TenantId;
        expect((await labelOf(scoped, tenant)).rows).toEqual([{ label: tenant }]);
      }
    }));

  test('statements that fail in between take nobody else’s down and leave no tenant behind', () =>
    behind(prepare, async ({ tenants, pipelined }) => {
      const failing: readonly [string, (pg: ScopedPostgres, other: TenantId) => Promise<unknown>][] = [
        ['22012', (pg) => pg.query('SELECT 1/0 FROM app.things')],
        ['42P01', (pg) => pg.query('SELECT * FROM app.nothing')],
        ['42501', (pg, other) => pg.query(ADD, [other, 2, 'not mine'])],
        ['22P02', (pg) => pg.query('SELECT $1::integer', ['not a number'])],
      ];
      const wrong: unknown[] = [];
      await interleaved(tenants, 1_200, async (tenant, i) => {
        const fails = i % 3 === 0 ? failing[i % failing.length] : undefined;
        if (fails !== undefined) {
          const [code, run] = fails;
          const other = tenants.find((t) => t !== tenant) as TenantId;
          const told = await codeOf(run(pipelined.forTenant({ tenantId: tenant }), other));
          if (told !== code) wrong.push({ code, told });
          return;
        }
        const { rows } = await labelOf(pipelined, tenant);
        if (rows.length !== 1 || rows[0]?.label !== tenant) wrong.push(rows);
      });
      expect(wrong).toEqual([]);
    }));

  test('transactions of many tenants, committed, rolled back and failed, are each tenant’s own', () =>
    behind(prepare, async ({ tenants, scoped }) => {
      const wrong: unknown[] = [];
      await interleaved(tenants, 300, async (tenant, i) => {
        const work = scoped.forTenant({ tenantId: tenant }).transaction(async (tx) => {
          await tx.query(ADD, [tenant, i + 2, `${tenant} ${i}`]);
          await tx.query('SAVEPOINT here');
          await tx.query(ADD, [tenant, i + 1_000, 'taken back']);
          await tx.query('ROLLBACK TO here');
          const { rows } = await tx.query<{ label: string }>('SELECT label FROM app.things');
          if (rows.length < 2 || !rows.every(({ label }) => label.startsWith(tenant))) wrong.push(rows);
          if (i % 3 === 1) throw Object.assign(new Error('the product'), { code: 'changed its mind' });
          if (i % 3 === 2) await tx.query('SELECT 1/0');
        });
        const told = await codeOf(work);
        if (told !== ['nothing', 'changed its mind', '22012'][i % 3]) wrong.push(told);
      });
      expect(wrong).toEqual([]);
      const { rows } = await cell.admin.query(
        'SELECT count(*)::int AS all, count(*) FILTER (WHERE label NOT LIKE tenant_id::text || $1)::int AS wrong FROM app.things WHERE tenant_id = ANY ($2)',
        ['%', tenants],
      );
      expect(rows).toEqual([{ all: TENANTS + 100, wrong: 0 }]);
    }));

  test('a statement has its own time-out', () =>
    behind(prepare, async ({ tenants: [tenant], pipelined }) => {
      const mine = pipelined.forTenant({ tenantId: tenant as TenantId });
      for (let i = 0; i < 5; i++)
        expect(await codeOf(mine.query({ text: 'SELECT pg_sleep(60)', timeoutMs: 20 }))).toBe('57014');
      expect((await mine.query(LABEL)).rows).toEqual([{ label: tenant }]);
    }));

  test('a signal cancels the statement in the server, on whichever connection it runs there', () =>
    behind(prepare, async ({ tenants: [tenant], scoped }) => {
      const controller = new AbortController();
      const mine = scoped.forTenant({ tenantId: tenant as TenantId });
      const slow = mine.query({ text: 'SELECT pg_sleep(60)', signal: controller.signal });
      const told = codeOf(slow);
      await until('it runs', async () => (await running(cell, 'pg_sleep(60)')) > 0);
      controller.abort(Object.assign(new Error('enough'), { code: 'enough' }));
      expect(await told).toBe('enough');
      await until('it runs no more', async () => (await running(cell, 'pg_sleep(60)')) === 0);
      expect((await mine.query(LABEL)).rows).toEqual([{ label: tenant }]);
    }));
});

test('a session that PgBouncer lends is given no time-out, which whoever comes next would have', async () => {
  if (found === undefined) return;
  const cell = await openCell();
  // One connection to the server, one client at a time: there what is prepared stays, whatever the version.
  const bouncer = await startPgBouncer(found, { url: cell.url('runtime'), servers: 1, prepared: 0 });
  try {
    const scoped = cell.pool({ url: bouncer.url, connections: 1 });
    const tenantId = await cell.tenant();
    expect((await labelOf(scoped, tenantId)).rows).toEqual([{ label: tenantId }]);
    await scoped.close();
    const next = await connect(bouncer.url);
    const { rows } = await next.query(
      `SELECT setting = reset_val AS "as it began" FROM pg_settings WHERE name = 'statement_timeout'`,
    );
    await next.end();
    expect(rows).toEqual([{ 'as it began': true }]);
  } finally {
    await bouncer.close();
    await cell.close();
  }
});

test('a table that changed is read as it is, though another connection of the server answers', () =>
  behind(true, async ({ tenants: [tenant], scoped }) => {
    const mine = scoped.forTenant({ tenantId: tenant as TenantId });
    const all = 'SELECT * FROM app.things';
    for (let i = 0; i < 4; i++) expect((await mine.query(all)).rows[0]).toMatchObject({ label: tenant });
    await cell.admin.query('ALTER TABLE app.things RENAME label TO title');
    // Those that come in their place prepare it for the first time, and have nothing to complain of.
    await cell.admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'tenantry_runtime'`,
    );
    await until('they are gone', async () => (await serversOf(cell)) === 0);
    for (let i = 0; i < 4; i++) expect((await mine.query(all)).rows[0]).toMatchObject({ title: tenant });
    await cell.admin.query('ALTER TABLE app.things RENAME title TO label');
  }));

test('the answers of a connection that is cut in the midst of them come to nobody else', () =>
  behind(false, async ({ bouncer, tenants, scoped }) => {
    expect(await othersWhileCut({ bouncer, tenants, scoped })).toEqual({ others: 0, failed: 0 });
  }));

// Why statements are not pipelined where nothing is prepared: it lets go of a server that still has answers to give.
test('PgBouncer before 1.22.1 gives them to somebody else when statements were pipelined', () =>
  behind(false, async ({ bouncer, tenants, scoped }) => {
    if (pipelines) return;
    const { others, failed } = await othersWhileCut({ bouncer, tenants, scoped }, { maxInFlight: 64 });
    expect(others).toBeGreaterThan(0);
    expect(failed).toBe(0);
  }));

test('nor do they when statements fail, of which the server says why before it is ready for the next', async () => {
  const late = await openLateReady(cell.url('runtime'), LATE_MS);
  try {
    await behind(
      false,
      async (behindIt) => {
        const failing = { text: 'SELECT 1/0 FROM app.things', cuts: 8, cutAfterMs: 1.5 * LATE_MS };
        expect(await othersWhileCut(behindIt, {}, failing)).toEqual({ others: 0, failed: 0 });
      },
      late.url,
    );
    expect(late.interruptions()).toBe(0);
  } finally {
    await late.close();
  }
});

test('what PgBouncer says when its own connection to the server breaks is that the store is unavailable', async () => {
  if (found === undefined) return;
  const link = await openLink(cell.url('runtime'));
  const bouncer = await startPgBouncer(found, { url: link.url, servers: 1, prepared: 0 });
  const scoped = cell.pool({ url: bouncer.url, prepare: false });
  try {
    const mine = scoped.forTenant({ tenantId: await cell.tenant() });
    const alone = codeOf(mine.query('SELECT pg_sleep(60)'));
    await until('it runs', async () => (await running(cell, 'pg_sleep(60)')) > 0);
    link.cut();
    // The server notices no sooner than it has something to say.
    await cell.admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sleep(60)'`,
    );
    expect(await alone).toBe('STORE_UNAVAILABLE');
    const within = mine.transaction(async (tx) => {
      await tx.query(LABEL);
      link.cut();
      await tx.query(LABEL);
    });
    expect(await codeOf(within)).toBe('STORE_UNAVAILABLE');
    expect((await mine.query(LABEL)).rows).toHaveLength(1);
  } finally {
    await scoped.close();
    await bouncer.close();
    await link.close();
  }
});

test('the usual SET of the session gives other tenants’ rows there, and is refused where it has been', () =>
  behind(false, async ({ bouncer, tenants, scoped }) => {
    const clients = await Promise.all(Array.from({ length: 16 }, () => connect(bouncer.url)));
    let others = 0;
    const turns = clients.map(async (client, c) => {
      for (let i = 0; i < 125; i++) {
        const tenant = tenants[(c * 3 + i) % TENANTS] as TenantId;
        await client.query(`SET app.tenant_id = ${pg.escapeLiteral(tenant)}`);
        // On a connection of the server where nobody has said SET yet it fails.
        const read = client.query<{ label: string }>(LABEL).catch(() => undefined);
        const label = (await read)?.rows[0]?.label;
        if (label !== undefined && label !== tenant) others += 1;
      }
    });
    try {
      await Promise.all(turns);
    } finally {
      await Promise.all(clients.map((client) => client.end()));
    }
    expect(others).toBeGreaterThan(100);

    // Each connection of the server is left as some tenant's now: another one's statement is refused and never run.
    const met = { own: 0, refused: 0, wrong: 0 };
    await interleaved(tenants, 200, async (tenant) => {
      try {
        const { rows } = await labelOf(scoped, tenant);
        met[rows.length === 1 && rows[0]?.label === tenant ? 'own' : 'wrong'] += 1;
      } catch {
        met.refused += 1;
      }
    });
    expect(met.wrong).toBe(0);
    expect(met.refused).toBeGreaterThan(0);
  }));

/** Runs `work` with the cell behind a PgBouncer of its own, where there is one that can do it. */
async function behind(
  prepare: boolean,
  work: (b: Behind) => Promise<void>,
  url = cell.url('runtime'),
): Promise<void> {
  if (found === undefined || (prepare && !pipelines)) return;
  const bouncer = await startPgBouncer(found, {
    url,
    servers: SERVERS,
    // So few that it drops them all the time.
    prepared: prepare ? 4 : 0,
  });
  const options = {
    url: bouncer.url,
    prepare,
    preparedPerConnection: 3,
    connections: 8,
    maxQueued: 3_000,
    acquireTimeoutMs: 30_000,
  };
  const scoped = cell.pool(options);
  const pipelined = cell.pool({ ...options, maxInFlight: 64 });
  try {
    const tenants = await Promise.all(Array.from({ length: TENANTS }, () => cell.tenant()));
    await work({ bouncer, tenants, scoped, pipelined });
  } finally {
    // Clients, then PgBouncer: after the test the cell wants no connection left.
    await Promise.all([scoped.close(), pipelined.close()]);
    await bouncer.close();
  }
}

/**
 * Rows of others that steady readers were given, and reads of theirs that failed, while the connections of another process
 * were cut, again and again.
 */
async function othersWhileCut(
  { bouncer, tenants, scoped }: Pick<Behind, 'bouncer' | 'tenants' | 'scoped'>,
  options: Partial<ScopedPostgresOptions> = {},
  { text = LABEL, cuts = 20, cutAfterMs = 0 } = {},
): Promise<{ others: number; failed: number }> {
  const link = await openLink(bouncer.url);
  const seen = { others: 0, failed: 0 };
  const over = new AbortController();
  const readers = Array.from({ length: 24 }, async (_, c) => {
    for (let i = 0; !over.signal.aborted; i++) {
      const tenant = tenants[(c * 3 + i) % TENANTS] as TenantId;
      const read = await labelOf(scoped, tenant).catch(() => undefined);
      if (read === undefined) seen.failed += 1;
      else if (read.rows[0]?.label !== tenant) seen.others += 1;
    }
  });
  for (let cut = 0; cut < cuts; cut++) {
    const victim = cell.pool({ url: link.url, prepare: false, connections: 2, ...options });
    const asked = Array.from({ length: 200 }, (_, i) =>
      labelOf(victim, tenants[i % TENANTS] as TenantId, text).catch(() => undefined),
    );
    // In the midst of them.
    await asked[5 + cut];
    if (cutAfterMs > 0) await pause(cutAfterMs);
    link.cut();
    await Promise.all([victim.close(), ...asked]);
  }
  over.abort();
  await Promise.all(readers);
  await link.close();
  return seen;
}

/** `count` turns of the tenants in a changing order, all begun at once. */
async function interleaved(
  tenants: readonly TenantId[],
  count: number,
  turn: (tenant: TenantId, i: number) => Promise<void>,
): Promise<void> {
  const order = Array.from({ length: count }, (_, i) => (i * 7 + (i >> 5)) % tenants.length);
  await Promise.all(order.map((at, i) => turn(tenants[at] as TenantId, i)));
}

const labelOf = (
  scoped: ScopedPostgresPool,
  tenantId: TenantId,
  text = LABEL,
  values: readonly unknown[] = [],
): Promise<pg.QueryResult<{ label: string }>> => scoped.forTenant({ tenantId }).query(text, values);

async function serversOf({ admin }: TestCell): Promise<number> {
  const { rows } = await admin.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'tenantry_runtime'`,
  );
  return rows[0]?.count ?? 0;
}
