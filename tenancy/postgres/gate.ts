/**
 * The gate of a tenant in its cell's PostgreSQL: one row, read inside every policy. Without it the tenant's context
 * sees nothing and writes nothing.
 */
import type { Pool } from 'pg';
import { transaction } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { type Manifest, tablesInOrder } from '../../domain/manifest.js';
import type { GateMode } from '../../domain/tenant-state.js';
import { ENTER } from './context-sql.js';
import { afterOlderTransactions } from './older-transactions.js';
import { qualified } from './product-schema.js';

/** A tenant's row and the generation that sets it: an older one is refused. */
export interface GateRow {
  readonly tenantId: TenantId;
  readonly generation: number;
}

/**
 * Sets the gates, all or none.
 * @throws TenantryError STALE_GENERATION when a newer operation has set one.
 */
export async function setGates(control: Pool, rows: readonly GateRow[], mode: GateMode): Promise<void> {
  const { rowCount } = await control.query({
    name: 'gate-set',
    text: `INSERT INTO tenantry.gate AS g (tenant_id, mode, generation)
           SELECT id, $3, generation FROM unnest($1::uuid[], $2::bigint[]) AS asked(id, generation)
           ON CONFLICT (tenant_id) DO UPDATE SET mode = excluded.mode, generation = excluded.generation,
             updated_at = clock_timestamp() WHERE g.generation <= excluded.generation`,
    values: [rows.map((row) => row.tenantId), rows.map((row) => row.generation), mode],
  });
  if (rowCount !== rows.length) throw new TenantryError('STALE_GENERATION');
}

/** The gates that are there, by tenant. */
export async function readGates(
  control: Pool,
  tenants: readonly TenantId[],
): Promise<Map<TenantId, GateMode>> {
  const { rows } = await control.query<{ tenant_id: TenantId; mode: GateMode }>({
    name: 'gate-read',
    text: 'SELECT tenant_id, mode FROM tenantry.gate WHERE tenant_id = ANY ($1::uuid[])',
    values: [tenants],
  });
  return new Map(rows.map((row) => [row.tenant_id, row.mode]));
}

/** For how long an erasure waits for the product: shorter than an attempt at it, which is then made again. */
const PATIENCE_MS = 20_000;

/**
 * Removes a tenant's rows, also those that the product was writing when its gate was closed, and then its gate. The purge role
 * sees only the tenant of its context, and that only while its gate stands at `purging`, so this can erase no other.
 * @throws TenantryError STALE_GENERATION; STORE_UNAVAILABLE while a transaction of the product's that is older is open
 */
export async function eraseRows(
  pools: { readonly control: Pool; readonly purge: Pool },
  manifest: Manifest,
  row: GateRow,
  patienceMs = PATIENCE_MS,
): Promise<{ rowsDeleted: number }> {
  // Never opened, or erased before: without a gate no row could ever be written.
  if (!(await closeForGood(pools.control, row))) return { rowsDeleted: 0 };
  await afterOlderTransactions(pools.control, patienceMs);
  const rowsDeleted = await transaction(pools.purge, async (client) => {
    await client.query(ENTER, [row.tenantId, null, null]);
    let deleted = 0;
    for (const [table] of tablesInOrder(manifest).toReversed()) {
      const result = await client.query(`DELETE FROM ${qualified(manifest, table)} WHERE tenant_id = $1`, [
        row.tenantId,
      ]);
      deleted += result.rowCount ?? 0;
    }
    return deleted;
  });
  await pools.control.query('DELETE FROM tenantry.gate WHERE tenant_id = $1 AND generation <= $2', [
    row.tenantId,
    row.generation,
  ]);
  return { rowsDeleted };
}

/**
 * Sets a gate to `purging` where there is one, and makes none: another erasure may have removed it by now.
 * @returns whether it is there
 * @throws TenantryError STALE_GENERATION
 */
async function closeForGood(control: Pool, { tenantId, generation }: GateRow): Promise<boolean> {
  const { rowCount } = await control.query({
    name: 'gate-close',
    text: `UPDATE tenantry.gate SET mode = 'purging', generation = $2, updated_at = clock_timestamp()
            WHERE tenant_id = $1 AND generation <= $2`,
    values: [tenantId, generation],
  });
  if (rowCount === 1) return true;
  if ((await readGates(control, [tenantId])).size > 0) throw new TenantryError('STALE_GENERATION');
  return false;
}
