/**
 * What the product has under way when a gate changes. A statement has read the gate when it began, a transaction that keeps
 * its snapshot even before that: both go by what they have read until they end.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Pool } from 'pg';
import { ROLES } from '../../catalogue/bootstrap.js';
import { TenantryError } from '../../domain/errors.js';

const LONGEST_PAUSE_MS = 250;

/**
 * Waits for the end of every transaction that the product has begun in this database by now, whosever it is: which tenant one
 * runs for is its own secret. Those that begin later are not waited for.
 * @throws TenantryError STORE_UNAVAILABLE when one of them is still there after so many milliseconds
 */
export async function afterOlderTransactions(control: Pool, withinMs: number): Promise<void> {
  const end = performance.now() + withinMs;
  let older = await underWay(control);
  for (let ms = 2; older.length > 0; ms = Math.min(2 * ms, LONGEST_PAUSE_MS)) {
    if (performance.now() >= end)
      throw new TenantryError(
        'STORE_UNAVAILABLE',
        { store: 'PostgreSQL' },
        { cause: new Error('the product has a transaction open that began before the gate was closed') },
      );
    await pause(ms);
    const still = new Set(await underWay(control));
    older = older.filter((id) => still.has(id));
  }
}

/** The ids of transactions of the product's role. A superuser is bound by no gate anyhow, and no statement of a product. */
async function underWay(control: Pool): Promise<string[]> {
  const { rows } = await control.query<{ id: string }>({
    name: 'gate-older',
    text: `SELECT l.virtualtransaction AS id
             FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_roles r ON r.oid = a.usesysid
            WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database()
              AND NOT r.rolsuper AND pg_has_role(r.oid, $1::name, 'MEMBER')`,
    values: [ROLES.runtime],
  });
  return rows.map((row) => row.id);
}
