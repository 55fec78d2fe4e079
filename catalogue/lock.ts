/** Advisory locks, so that two processes which start at once do not both change the shape of a database. */
import type { ClientBase } from 'pg';

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
