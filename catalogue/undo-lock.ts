/**
 * While an undo is at work, no further attempt of its operation is admitted, even if the run that asked for the undo is long
 * over. Otherwise the attempt would make what the undo is still removing, and a store cannot tell the two apart.
 */
import type { Pool, PoolClient } from 'pg';
import { TenantryError } from '../domain/errors.js';
import type { OperationId } from '../domain/ids.js';
import { transaction } from './pool.js';

const keyOf = (id: string): string => `hashtextextended('tenantry:undo:' || ${id}, 0)`;
const KEY = keyOf('$1');

/** Runs `work` while no attempt is admitted. The lock is shared: several undos may be at work at once. */
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
      // A machine that dies silently would hold the lock until the system's keepalive notices, by default after two hours.
      `SELECT set_config('tcp_keepalives_idle', '20', true), set_config('tcp_keepalives_interval', '5', true),
              set_config('tcp_keepalives_count', '4', true),
              (SELECT count(pg_advisory_xact_lock_shared(${keyOf('id')})) FROM unnest($1::text[]) AS id)`,
      [operationIds],
    );
    return work(client);
  });
}

/**
 * Makes sure that no undo of the operation is at work, and that none begins before this transaction ends. It does not wait for
 * one: an undo may take as long as its store does, and waiting would hold a connection and block further undos. The caller
 * holds the operation's row, so that two admissions of one operation do not meet here.
 * @throws TenantryError UNDO_RUNNING, to be tried again.
 */
export async function keepUndosOut(client: PoolClient, operationId: OperationId): Promise<void> {
  const { rows } = await client.query<{ free: boolean }>(
    // Tried twice: a commit releases the row a moment before the advisory lock, so another admission's may still be held.
    `SELECT pg_try_advisory_xact_lock(${KEY})
         OR (pg_sleep(0.01) IS NOT NULL AND pg_try_advisory_xact_lock(${KEY})) AS free`,
    [operationId],
  );
  if (rows[0]?.free !== true) throw new TenantryError('UNDO_RUNNING');
}
