/** `migrate`: roles, databases and the catalogue's newest shape. Run once before the worker and the API of a version. */
import { readConfig } from '../domain/config.js';
import { createLogger } from '../domain/log.js';
import { bootstrap, postgresUrl } from './bootstrap.js';
import { migrateCatalogue } from './migrate.js';

export async function main(): Promise<void> {
  const config = readConfig([
    'TENANTRY_POSTGRES_ADMIN_URL',
    'TENANTRY_CONTROL_DATABASE',
    'TENANTRY_CELL_DATABASE',
    'TENANTRY_ROLE_PASSWORD_OWNER',
    'TENANTRY_ROLE_PASSWORD_CATALOGUE',
    'TENANTRY_ROLE_PASSWORD_RUNTIME',
    'TENANTRY_ROLE_PASSWORD_PURGE',
    'TENANTRY_ROLE_PASSWORD_LOOKUP',
    'TENANTRY_LOG_LEVEL',
  ]);
  const log = createLogger({ level: config.TENANTRY_LOG_LEVEL, name: 'tenantry-migrate' });
  const adminUrl = config.TENANTRY_POSTGRES_ADMIN_URL;
  const controlDatabase = config.TENANTRY_CONTROL_DATABASE;
  const passwords = {
    owner: config.TENANTRY_ROLE_PASSWORD_OWNER,
    catalogue: config.TENANTRY_ROLE_PASSWORD_CATALOGUE,
    runtime: config.TENANTRY_ROLE_PASSWORD_RUNTIME,
    purge: config.TENANTRY_ROLE_PASSWORD_PURGE,
    lookup: config.TENANTRY_ROLE_PASSWORD_LOOKUP,
  };
  await bootstrap({ adminUrl, passwords, controlDatabase, cellDatabase: config.TENANTRY_CELL_DATABASE });
  const { applied } = await migrateCatalogue(postgresUrl(adminUrl, controlDatabase, 'owner', passwords));
  log.info({ applied }, 'the catalogue has its newest shape');
}

if (require.main === module) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
