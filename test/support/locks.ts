/** Makes statements of several processes meet: a row is locked from outside until all of them wait for it. */
import pg from 'pg';
import { until } from './until.js';
import type { World } from './world.js';

/**
 * Runs `work` while the control database holds the lock that `statement` takes, until `waiting` statements stand behind
 * it; then does what is to happen meanwhile, lets go and gives the result.
 */
export async function whileLocked<T>(
  world: World,
  statement: { text: string; values: unknown[] },
  waiting: number,
  work: () => Promise<T>,
  meanwhile: () => Promise<unknown> = () => Promise.resolve(),
): Promise<T> {
  const locker = new pg.Client({
    connectionString: world.url('control'),
    options: '-c search_path=tenantry',
  });
  await locker.connect();
  try {
    await locker.query('BEGIN');
    await locker.query(statement);
    const result = work();
    // Its failure is the caller's, later: until then it has a listener.
    result.catch(() => undefined);
    await untilWaiting(locker, waiting);
    await meanwhile();
    await locker.query('COMMIT');
    return await result;
  } finally {
    await locker.end();
  }
}

/** Resolves when so many statements on the control database wait for a lock. */
export const untilWaiting = (client: pg.ClientBase, count: number): Promise<true> =>
  until(`${count} statements wait for the lock`, async () => {
    // A transaction sees the activity as it was when it looked first.
    await client.query('SELECT pg_stat_clear_snapshot()');
    const { rows } = await client.query<{ count: number }>(
      `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return (rows[0]?.count ?? 0) >= count;
  });
