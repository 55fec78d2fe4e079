/** Which shape this version of the processes works with: that of the newest migration that it came with. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Pool } from 'pg';

export const MIGRATIONS = join(__dirname, 'migrations');

const newest = Math.max(...readdirSync(MIGRATIONS).map((file) => Number.parseInt(file, 10)));

/** False of a catalogue that was restored from before the last upgrade, or was not migrated in it. A newer one will do. */
export async function hasItsShape(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query<{ newest: number | null }>('SELECT max(id) AS newest FROM migrations');
  return (rows[0]?.newest ?? 0) >= newest;
}
