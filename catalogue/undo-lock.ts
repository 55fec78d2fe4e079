/**
 * An undo at work keeps the next attempt of its operation out, however long the run that asked for it has been over: that
 * attempt would make what is still being removed, and a store cannot tell the two apart.
 */
import type { Pool, PoolClient } from 'pg';
import { TenantryError } from '../domain/errors.js';
import type { OperationId } from '../domain/ids.js';
import { transaction } from './pool.js';

const keyOf = (id: string): string => `hashtextextended('tenantry:undo:' || ${id}, 0)`;
const KEY = keyOf('$1');

/** Runs `work` while no attempt is admitted. Shared: several undos may be at work at once. */
export const whileUndoing = <T>(
  pool: Pool,
  operationId: OperationId,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> => whileUndoingAll(pool, [operationId], work);

export function whileUndoingAll<T>(
  pool: Pool,
  operationIds: readonly OperationId[],
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return transaction(pool, async (client) => {
    await client.query(
      // A machine that died without a word must not hold the lock until the system's keepalive, two hours by default.
      `SELECT set_config('tcp_keepalives_idle', '20', true), set_config('tcp_keepalives_interval', '5', true),
              set_config('tcp_keepalives_count', '4', true),
              (SELECT count(pg_advisory_xact_lock_shared(${keyOf('id')})) FROM unnest($1::text[]) AS id)`,
      [operationIds],
    );
    return work(client);
  });
}

/**
 * No undo of the operation is at work, and none begins in this transaction. An undo may take as long as its store does, and
 * is not waited for here: that would hold a connection, and keep those out that come to take something back meanwhile. Its
 * caller holds the operation's row, so that its twin is not met.
 * @throws TenantryError UNDO_RUNNING, to be tried again.
 */
export async function keepUndosOut(client: PoolClient, operationId: OperationId): Promise<void> {
  const { rows } = await client.query<{ free: boolean }>(
    // A second look: a commit lets go of the row a moment before it lets go of this, so the twin's may still be there.
    `SELECT pg_try_advisory_xact_lock(${KEY})
         OR (pg_sleep(0.01) IS NOT NULL AND pg_try_advisory_xact_lock(${KEY})) AS free`,
    [operationId],
  );
  if (rows[0]?.free !== true) throw new TenantryError('UNDO_RUNNING');
}
