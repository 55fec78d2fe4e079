/** What a server needs before tests may use it. */
import { MongoClient } from 'mongodb';
import { bootstrap, postgresUrl, type RolePasswords } from '../../catalogue/bootstrap.js';
import { migrateCatalogue } from '../../catalogue/migrate.js';
import { tryEnforcement } from '../../tenancy/mongo/enforcement.js';

/** The empty database that each test's cell is a copy of. */
export const CELL_TEMPLATE = 'tenantry_cell_unused';

export async function prepareTemplates(
  adminUrl: string,
  controlTemplate: string,
  passwords: RolePasswords,
): Promise<void> {
  await bootstrap({ adminUrl, passwords, controlDatabase: controlTemplate, cellDatabase: CELL_TEMPLATE });
  await migrateCatalogue(postgresUrl(adminUrl, controlTemplate, 'owner', passwords));
}

/** As the local stack decides it for its own cell. */
export async function earnedMode(url: string): Promise<'server' | 'guard'> {
  const admin = new MongoClient(url);
  try {
    const trial = await tryEnforcement(admin, url.replace(/\/\/[^@/]*@/, '//'));
    return trial.notRefused.length === 0 ? 'server' : 'guard';
  } finally {
    await admin.close();
  }
}
