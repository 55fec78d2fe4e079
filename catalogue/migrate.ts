/**
 * Brings the catalogue to its newest shape: plain SQL files, forward only, checksummed, under an advisory lock, so
 * that two processes starting at once are safe and an edited old file is refused.
 */
import pg from 'pg';
import { migrate as runMigrations } from 'postgres-migrations';
import { MIGRATIONS } from './shape.js';

/** @param ownerUrl the control database, as the schema owner. */
export async function migrateCatalogue(ownerUrl: string): Promise<{ applied: string[] }> {
  const client = new pg.Client({
    connectionString: ownerUrl,
    application_name: 'tenantry-migrate',
    options: '-c search_path=tenantry',
  });
  await client.connect();
  try {
    const applied = await runMigrations({ client }, MIGRATIONS);
    await client.query(`
      GRANT USAGE ON SCHEMA tenantry TO tenantry_catalogue;
      GRANT SELECT ON migrations TO tenantry_catalogue`);
    return { applied: applied.map((migration) => migration.fileName) };
  } finally {
    await client.end();
  }
}
