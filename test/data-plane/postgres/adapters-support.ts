/** The support desk with tenants in its catalogue and cell, entered as a product does; PostgreSQL is its only store. */
import pg from 'pg';
import type { TenantId } from '../../../domain/ids.js';
import { createLogger } from '../../../domain/log.js';
import { setGates } from '../../../tenancy/postgres/gate.js';
import { createScopedPostgres } from '../../../tenancy/postgres/scoped.js';
import type { Tenantry } from '../../../tenancy/index.js';
import { until } from '../../support/until.js';
import { createWorld } from '../../support/world.js';
import { insertTenant, labelledStores, open } from '../context/support.js';

export interface Desk {
  readonly tenantry: Tenantry;
  tenant(): Promise<TenantId>;
  as<T>(tenant: TenantId, work: () => T | Promise<T>): Promise<T>;
  /** Work as the second tenant in the midst of the first one's, on the platform's word. */
  across<T>(other: TenantId, work: () => T | Promise<T>): Promise<T>;
  /**
   * When no tenant has one in the server, which must be soon: of a statement that failed it tells before it has rolled back.
   */
  noOpenTransactions(): Promise<unknown>;
  close(): Promise<void>;
}

const NAME = 'test-desk';

export async function openDesk(): Promise<Desk> {
  const world = await createWorld();
  const cell = await world.dependencies.cells.get(world.cell);
  const admin = new pg.Client({ connectionString: world.url('cell') });
  await admin.connect();
  const tenantry = open(world, {
    log: createLogger({ level: 'silent' }),
    stores: ({ postgresUrl }) => {
      const scoped = createScopedPostgres({
        url: postgresUrl,
        name: NAME,
        interactive: 4,
        acquireTimeoutMs: 60_000,
      });
      return { ...labelledStores(), pg: scoped, close: () => scoped.close() };
    },
  });
  const as: Desk['as'] = (tenant, work) => tenantry.runWithTenant(tenant, work);
  return {
    tenantry,
    async tenant() {
      const { tenantId } = await insertTenant(world);
      await setGates(cell.postgres.control, [{ tenantId, generation: 1 }], 'open');
      return tenantId;
    },
    as,
    across: (other, work) =>
      tenantry.asPlatform('a test of what may be carried across', () => as(other, work)),
    noOpenTransactions: () =>
      until('no transaction is open', async () => {
        const { rows } = await admin.query<{ count: number }>(
          `SELECT count(*)::int AS count FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = $1 AND xact_start IS NOT NULL`,
          [NAME],
        );
        return rows[0]?.count === 0;
      }),
    async close() {
      await tenantry.close();
      await admin.end();
      await world.close();
    },
  };
}

/** The code of what a promise is rejected with, or of what that was caused by. */
export async function codeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    return { came: await work };
  } catch (error) {
    // Drizzle wraps what the driver threw.
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
      if ('code' in cause) return cause.code;
    return error;
  }
}
