/**
 * Locks that a transaction takes before it looks: an advisory one, so that two processes which start at once do not both
 * change the shape of a database, an operation's own row, and that of its request.
 */
import type { ClientBase, Pool, PoolClient } from 'pg';
import type { OperationId } from '../domain/ids.js';
import { transaction } from './pool.js';

/** Runs `work` in a transaction that holds the named lock; the lock goes with the transaction, however it ends. */
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
 * Runs `work` while nobody else writes under the operation. A statement that waits for that in its middle would go on with
 * what it saw before: those of `work` see what the others have written meanwhile.
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

export async function holdOperation(client: PoolClient, operationId: OperationId): Promise<void> {
  const text = 'SELECT FROM operation WHERE id = $1 FOR NO KEY UPDATE';
  await client.query({ name: 'operation-hold', text, values: [operationId] });
}

/** An admission that is under way either has this row, and is waited for, or will find that it is gone. */
export async function holdRequest(client: PoolClient, operationId: OperationId): Promise<void> {
  await client.query('SELECT FROM request WHERE operation_id = $1 FOR UPDATE', [operationId]);
}
