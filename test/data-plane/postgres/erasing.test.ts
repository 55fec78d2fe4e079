/** A tenant's rows are erased while the product is still at work for it: what it began before the gate was closed goes on. */
import { randomInt } from 'node:crypto';
import type pg from 'pg';
import { createPool } from '../../../catalogue/pool.js';
import type { TenantId } from '../../../domain/ids.js';
import { ENTER } from '../../../tenancy/postgres/context-sql.js';
import { eraseRows } from '../../../tenancy/postgres/gate.js';
import { createHolds } from '../../support/holds.js';
import { watchedPool } from '../../support/points.js';
import { isRunning, openCell, type TestCell } from './support.js';
import { until } from '../../support/until.js';

const INSERT = 'INSERT INTO app.things (tenant_id, id, label) VALUES ($1, $2, $3)';

let cell: TestCell;
let purge: pg.Pool;
beforeAll(async () => {
  cell = await openCell();
  purge = createPool({ url: cell.url('purge'), name: 'test-purge', max: 2 });
});
afterEach(async () => {
  await purge.end();
  await cell.settle();
  purge = createPool({ url: cell.url('purge'), name: 'test-purge', max: 2 });
});
afterAll(async () => {
  await purge.end();
  await cell.close();
});

describe('an erasure', () => {
  it('waits for a transaction that has written and is not committed', async () => {
    const tenant = await cell.tenant();
    const product = await enter(tenant);
    await insert(product, tenant);
    await expectErased(tenant, () => product.query('COMMIT'));
  });

  it('waits for a statement that began before it and writes behind it', async () => {
    const tenant = await cell.tenant();
    const product = await enter(tenant);
    // Another one has the key, for as long as it has not made up its mind.
    const admin = await cell.admin.connect();
    await admin.query('BEGIN');
    await insert(admin, tenant, 7);
    const writing = product.query(
      `INSERT INTO app.things (tenant_id, id, label) SELECT $1, id, 'slow ' || id FROM generate_series(6, 8) AS id`,
      [tenant],
    );
    await until('the statement is under way', () => isRunning(cell, 'slow'));
    await expectErased(tenant, async () => {
      await admin.query('ROLLBACK');
      admin.release();
      await writing;
      await product.query('COMMIT');
    });
  });

  it('waits for a transaction that keeps its snapshot and has not written yet', async () => {
    const tenant = await cell.tenant();
    const product = await enter(tenant, 'REPEATABLE READ');
    await expectErased(tenant, async () => {
      await insert(product, tenant);
      await product.query('COMMIT');
    });
  });

  it('waits for no transaction that began after it, and for none that is not the product’s', async () => {
    const [tenant, other] = [await cell.tenant(), await cell.tenant()];
    const product = await enter(tenant);
    const admin = await cell.admin.connect();
    await admin.query('BEGIN');
    let later: pg.Client | undefined;
    await expectErased(tenant, async () => {
      later = await enter(other);
      await product.query('COMMIT');
    });
    await later?.query('COMMIT');
    await admin.query('COMMIT');
    admin.release();
  });

  it('that would wait for too long fails as may be tried again, and has erased nothing', async () => {
    const tenant = await cell.tenant();
    const product = await enter(tenant);
    const pools = { control: cell.control, purge };
    await expect(
      eraseRows(pools, cell.manifest, { tenantId: tenant, generation: 9 }, 50),
    ).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
    });
    expect(await rowsOf(tenant)).toBe(1);
    await product.query('COMMIT');
    expect(await eraseRows(pools, cell.manifest, { tenantId: tenant, generation: 9 })).toEqual({
      rowsDeleted: 1,
    });
  });
});

/** In a transaction of the product's, as the tenant. */
async function enter(tenant: TenantId, isolation = 'READ COMMITTED'): Promise<pg.Client> {
  const product = await cell.raw('runtime');
  await product.query(`BEGIN ISOLATION LEVEL ${isolation}`);
  await product.query(ENTER, [tenant, null, null]);
  return product;
}

const insert = (client: pg.ClientBase, tenant: TenantId, id = randomInt(10, 1e9)): Promise<unknown> =>
  client.query(INSERT, [tenant, id, `thing ${id}`]);

/** Whatever the product does when the erasure has seen that it is at work. */
async function expectErased(tenant: TenantId, product: () => Promise<unknown>): Promise<void> {
  const holds = createHolds();
  const hold = holds.at('after gate-older');
  const pools = { control: watchedPool(cell.control, holds.reach), purge };
  const erasing = eraseRows(pools, cell.manifest, { tenantId: tenant, generation: 9 });
  await Promise.race([hold.reached, erasing]);
  await product();
  hold.release();
  await erasing;
  expect(await rowsOf(tenant)).toBe(0);
}

async function rowsOf(tenant: TenantId): Promise<number> {
  return (await cell.admin.query('SELECT FROM app.things WHERE tenant_id = $1', [tenant])).rowCount ?? 0;
}
