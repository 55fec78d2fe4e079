/**
 * An undo at work keeps the next attempt of its operation out, however long the run that asked for it has been over: that
 * attempt would make what is still being removed, and a store cannot tell the two apart.
 */
import type { Pool, PoolClient } from 'pg';
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

/** Waits, as long as a statement may take, until no undo of the operation is at work; none begins in this transaction. */
export async function afterUndoing(client: PoolClient, operationId: OperationId): Promise<void> {
  await client.query(`SELECT pg_advisory_xact_lock(${KEY})`, [operationId]);
}
