/** What the catalogue holds, counted: for the tests that say that nothing was made. */
import type { World } from '../../support/world.js';

const TABLES = ['operation', 'allocation', 'credential', 'request', 'batch_item'] as const;

export type Rows = Readonly<Record<(typeof TABLES)[number] | 'tenant', number>>;

/** Rows of customers; the canaries of a cell are left out. */
export async function countRows({ catalogue }: World): Promise<Rows> {
  const counts = TABLES.map((table) =>
    ['allocation', 'credential'].includes(table)
      ? `(SELECT count(*)::int FROM ${table} JOIN tenant t ON t.id = tenant_id WHERE NOT t.system) AS ${table}`
      : `(SELECT count(*)::int FROM ${table}) AS ${table}`,
  );
  const { rows } = await catalogue.pool.query<Rows>(
    `SELECT ${counts.join(', ')}, (SELECT count(*)::int FROM tenant WHERE NOT system) AS tenant`,
  );
  if (rows[0] === undefined) throw new Error('no row');
  return rows[0];
}

export const NOTHING: Rows = {
  tenant: 0,
  operation: 0,
  allocation: 0,
  credential: 0,
  request: 0,
  batch_item: 0,
};
