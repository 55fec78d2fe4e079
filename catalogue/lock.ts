/**
 * Locks that a transaction takes before it reads: an advisory lock, so that two processes which start at once do not both
 * migrate a database; the row of an operation; and the row of its request.
 */
import type { ClientBase, Pool, PoolClient } from 'pg';
import type { OperationId } from '../domain/ids.js';
import { transaction } from './pool.js';

/** Runs `work` in a transaction that holds the named lock, which ends with the transaction, however that ends. */
export async function inLockedTransaction<T>(
  client: ClientBase,
  name: string,
  work: () => Promise<T>,
): Promise<T> {
  await client.query('BEGIN');
  try {
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('tenantry:' || $1, 0))", [name]);
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

/**
 * Runs `work` while nobody else writes under the operation. The lock is taken by a statement of its own, because a statement that
 * waits for a lock goes on with the snapshot from before it: the statements of `work` see what others wrote meanwhile.
 */
export function whileHolding<T>(
  pool: Pool,
  operationId: OperationId,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  return transaction(pool, async (client) => {
    await holdOperation(client, operationId);
    return work(client);
  });
}

/** Locks the operation's row until the transaction ends. */
export async function holdOperation(client: PoolClient, operationId: OperationId): Promise<void> {
  const text = 'SELECT FROM operation WHERE id = $1 FOR NO KEY UPDATE';
  await client.query({ name: 'operation-hold', text, values: [operationId] });
}

/** Locks the request's row. An admission that is under way holds it already, and is waited for; a later one finds it gone. */
export async function holdRequest(client: PoolClient, operationId: OperationId): Promise<void> {
  await client.query('SELECT FROM request WHERE operation_id = $1 FOR UPDATE', [operationId]);
}
