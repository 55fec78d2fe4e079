// PostgreSQL through the data plane against node-postgres by itself: point queries by primary key, each for another tenant
// than the one before. `npm run bench -- data-plane-postgres`; see docs/benchmarks.md.

import pg from 'pg';
import { TENANT_SETTING } from '../../tenancy/postgres/context-sql.js';
import { createScopedPostgres, type ScopedPostgresPool } from '../../tenancy/postgres/scoped.js';
import { atOnce, type Benchmark, type Figure, figure, inTurn, timed } from '../harness.js';
import {
  type BenchCell,
  createCell,
  newPasswords,
  ROWS_PER_TENANT,
  rowId,
  type Shape,
} from '../postgres-cell.js';
import { withServers } from '../servers.js';

export interface PostgresBenchOptions {
  /** A superuser of a server that is for benchmarks only. */
  readonly postgresUrl: string;
  readonly say: (line: string) => void;
  /** Queries of each sample. */
  readonly calls?: number;
  readonly rounds?: number;
}

/** Connections at most and callers, on both sides. The data plane shares a connection among callers, node-postgres cannot. */
const CONNECTIONS = 8;
/** Connections at most and callers, where statements may share a connection. */
const CROWD = { connections: 16, callers: 64 };

const COLUMNS = 'tenant_id, id, subject, open, created_at';

export async function measurePostgres(options: PostgresBenchOptions): Promise<Record<string, Figure>> {
  const { postgresUrl, say, calls = 2_000, rounds = 31 } = options;
  say('making cells of 1,000 and of 10,000 tenants');
  const passwords = newPasswords();
  const small = await createCell(postgresUrl, passwords, { database: 'bench_small', tenants: 1_000 });
  const large = await createCell(postgresUrl, passwords, { database: 'bench_large', tenants: 10_000 });
  const strict = await createCell(postgresUrl, passwords, {
    database: 'bench_hardened',
    tenants: 1_000,
    hardened: true,
  });
  const open: { close(): Promise<unknown> }[] = [];
  const opened = <T extends { close(): Promise<unknown> }>(one: T): T => {
    open.push(one);
    return one;
  };
  try {
    const raw = opened(await openRaw(small, CONNECTIONS));
    const crowd = opened(await openRaw(small, CROWD.connections));
    const plain = opened(bounded(small));
    const hardened = opened(bounded(strict, { hardened: { key: () => strict.key } }));
    const many = opened(bounded(large));
    const apart = opened(bounded(small, { maxInFlight: 1 }));
    const pipelined = opened(createScopedPostgres({ url: small.url, connections: CROWD.connections }));
    const items = Array.from({ length: calls }, (_, call) => call);
    // Each round goes on where the one before ended, so that it is all tenants of a cell that take part.
    const side = (cell: BenchCell, callers: number, query: Query) => (round: number) =>
      timed(() => atOnce(callers, items, (call) => checked(cell, round * calls + call, query)));
    const samples = {
      raw: side(small, CONNECTIONS, raw.query),
      scoped: side(small, CONNECTIONS, scoped(plain, 'setting')),
      gate: side(small, CONNECTIONS, scoped(plain, 'app')),
      hardened: side(strict, CONNECTIONS, scoped(hardened, 'app')),
      setLocal: side(small, CONNECTIONS, raw.setLocal),
      crowd: side(small, CROWD.callers, crowd.query),
      pipelined: side(small, CROWD.callers, scoped(pipelined, 'setting')),
      apart: side(small, CONNECTIONS, scoped(apart, 'setting')),
      apartGate: side(small, CONNECTIONS, scoped(apart, 'app')),
    };
    say(`${calls} queries in each sample, ${rounds} rounds of ${Object.keys(samples).length} samples`);
    // Until every tenant has been met. Statements are prepared when they come again, and planned for good after five times.
    await inTurn(5, samples);
    const times = await inTurn(rounds, samples);
    say('10,000 tenants against 1,000');
    // Each pair by itself: after another side on the same rows, one of them would find these in the processor's caches.
    const sizes = async (shape: Shape): Promise<number[]> => {
      const pair = {
        small: side(small, CONNECTIONS, scoped(plain, shape)),
        large: side(large, CONNECTIONS, scoped(many, shape)),
      };
      await inTurn(5, pair);
      const taken = await inTurn(4 * rounds, pair);
      return ratios(taken.small, taken.large);
    };
    const [gateSizes, bareSizes] = [await sizes('app'), await sizes('bare')];
    const perSecond = (side: readonly number[]): number[] => side.map((time) => (calls / time) * 1_000);
    return {
      pg_scoped_vs_raw: figure(ratios(times.raw, times.scoped), { is: '>=', value: 0.85 }),
      pg_gate_vs_raw: figure(ratios(times.raw, times.gate), { is: '>=', value: 0.75 }),
      pg_hardened_vs_raw: figure(ratios(times.raw, times.hardened), { is: '>=', value: 0.6 }),
      pg_pipelined_vs_raw: figure(ratios(times.crowd, times.pipelined), { is: '>=', value: 1.8 }),
      pg_scoped_vs_set_local: figure(ratios(times.setLocal, times.scoped), { is: '>=', value: 2 }),
      pg_10k_vs_1k: figure(gateSizes, { is: '>=', value: 0.9 }),
      pg_bare_10k_vs_1k: figure(bareSizes),
      pg_unpipelined_vs_raw: figure(ratios(times.raw, times.apart)),
      pg_unpipelined_gate_vs_raw: figure(ratios(times.raw, times.apartGate)),
      pg_raw_per_s: figure(perSecond(times.raw)),
      pg_scoped_per_s: figure(perSecond(times.scoped)),
      pg_pipelined_per_s: figure(perSecond(times.pipelined)),
    };
  } finally {
    await Promise.all(open.map((one) => one.close()));
  }
}

const benchmark: Benchmark = {
  name: 'data-plane-postgres',
  run: (say) =>
    withServers(['postgres'], async ({ urls, environment }) => ({
      figures: await measurePostgres({ postgresUrl: urls.postgres, say }),
      environment,
    })),
};
export default benchmark;

type Query = (call: number, tenant: BenchCell['tenants'][number], id: string) => Promise<pg.QueryResult>;

/** The row has to be that tenant's: a figure of wrong answers is none. */
async function checked({ tenants }: BenchCell, call: number, query: Query): Promise<void> {
  // A prime stride goes through all tenants, and never to the same one twice in a row.
  const tenant = tenants[(call * 7_919) % tenants.length] as BenchCell['tenants'][number];
  const { rows } = await query(call, tenant, IDS[call % ROWS_PER_TENANT] as string);
  if (rows.length !== 1 || (rows[0] as { tenant_id: string }).tenant_id !== tenant)
    throw new Error('a query did not answer with the one row of its tenant');
}

const IDS = Array.from({ length: ROWS_PER_TENANT }, (_, row) => rowId(row));

/** As many connections as the raw side has, at most. With `maxInFlight: 1` also one statement at a time on each. */
const bounded = (
  { url }: BenchCell,
  more: Partial<Parameters<typeof createScopedPostgres>[0]> = {},
): ScopedPostgresPool => createScopedPostgres({ url, connections: CONNECTIONS, ...more });

function scoped(pool: ScopedPostgresPool, shape: Shape): Query {
  const text = `SELECT ${COLUMNS} FROM ${shape}.tickets WHERE id = $1`;
  if (shape === 'bare') {
    const withTenant = `${text} AND tenant_id = $2`;
    return (_call, tenantId, id) => pool.forTenant({ tenantId }).query(withTenant, [id, tenantId]);
  }
  return (_call, tenantId, id) => pool.forTenant({ tenantId }).query(text, [id]);
}

interface Raw {
  /** A prepared statement on the table without row-level security, with the tenant in its WHERE. */
  readonly query: Query;
  /** The usual way to set a tenant: a transaction around each query. On the table with the policy. */
  readonly setLocal: Query;
  close(): Promise<unknown>;
}

/** Clients that callers take in turn; each sends what comes one after the other. */
async function openRaw({ url }: BenchCell, connections: number): Promise<Raw> {
  const clients = Array.from({ length: connections }, () => new pg.Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  const idle = [...clients];
  const waiting: ((client: pg.Client) => void)[] = [];
  const borrow = async (work: (client: pg.Client) => Promise<pg.QueryResult>): Promise<pg.QueryResult> => {
    const client = idle.pop() ?? (await new Promise<pg.Client>((resolve) => waiting.push(resolve)));
    try {
      return await work(client);
    } finally {
      const next = waiting.shift();
      if (next === undefined) idle.push(client);
      else next(client);
    }
  };
  const point = {
    name: 'point',
    text: `SELECT ${COLUMNS} FROM bare.tickets WHERE tenant_id = $1 AND id = $2`,
  };
  const within = { name: 'within', text: `SELECT ${COLUMNS} FROM setting.tickets WHERE id = $1` };
  return {
    query: (_call, tenant, id) => borrow((client) => client.query({ ...point, values: [tenant, id] })),
    setLocal: (_call, tenant, id) =>
      borrow(async (client) => {
        await client.query('BEGIN');
        await client.query(`SET LOCAL ${TENANT_SETTING} = '${tenant}'`);
        const result = await client.query({ ...within, values: [id] });
        await client.query('COMMIT');
        return result;
      }),
    close: () => Promise.all(clients.map((client) => client.end())),
  };
}

const ratios = (over: readonly number[], under: readonly number[]): number[] =>
  over.map((time, round) => time / (under[round] ?? Number.NaN));
