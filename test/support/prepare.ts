/** What a server needs before tests may use it. */
import { createHash } from 'node:crypto';
import { MongoClient } from 'mongodb';
import type pg from 'pg';
import {
  bootstrap,
  CELL_ROLES,
  postgresUrl,
  type RolePasswords,
  withClient,
} from '../../catalogue/bootstrap.js';
import { migrateCatalogue } from '../../catalogue/migrate.js';
import { tablesInOrder } from '../../domain/manifest.js';
import supportDesk from '../../manifest/support-desk.js';
import { mongoUrlWithoutCredentials } from '../../tenancy/cell-connections.js';
import { type Tried, tryEnforcement } from '../../tenancy/mongo/enforcement.js';
import { CONTEXT_FUNCTIONS } from '../../tenancy/postgres/context-sql.js';
import { cellSchema, createTable, ensureProductSchema } from '../../tenancy/postgres/product-schema.js';
import { copyDatabase } from './databases.js';

/** An empty cell. */
export const CELL_TEMPLATE = 'tenantry_cell_unused';

/**
 * A cell that has the sample product's tables already, as a worker finds it at each of its starts but the first. Its name
 * holds all that they are made by, so that code which would make others (a mutant's) does not find it.
 */
const PREPARED_CELL_TEMPLATE = `tenantry_cell_${digestOfTables()}`;

export async function prepareTemplates(
  adminUrl: string,
  controlTemplate: string,
  passwords: RolePasswords,
): Promise<void> {
  await bootstrap({ adminUrl, passwords, controlDatabase: controlTemplate, cellDatabase: CELL_TEMPLATE });
  await migrateCatalogue(postgresUrl(adminUrl, controlTemplate, 'owner', passwords));
  await withClient(adminUrl, async (admin) => {
    if ((await preparedTemplate(admin)) === PREPARED_CELL_TEMPLATE) return;
    await copyDatabase(admin, { name: PREPARED_CELL_TEMPLATE, template: CELL_TEMPLATE, roles: CELL_ROLES });
  });
  await withClient(postgresUrl(adminUrl, PREPARED_CELL_TEMPLATE, 'owner', passwords), (owner) =>
    ensureProductSchema(owner, supportDesk),
  );
}

/** The one of these tables, where the server has it; else the empty one. */
export async function preparedTemplate(admin: pg.Client): Promise<string> {
  const { rowCount } = await admin.query('SELECT FROM pg_database WHERE datname = $1', [
    PREPARED_CELL_TEMPLATE,
  ]);
  return rowCount === 1 ? PREPARED_CELL_TEMPLATE : CELL_TEMPLATE;
}

function digestOfTables(): string {
  const tables = tablesInOrder(supportDesk).map(([name, table]) => createTable(supportDesk, name, table));
  const statements = [CONTEXT_FUNCTIONS, cellSchema(supportDesk.postgres.hardened), ...tables];
  return createHash('sha256').update(statements.join('\n')).digest('hex').slice(0, 16);
}

/** What the server refuses. */
export async function tryServer(url: string): Promise<Tried> {
  const admin = new MongoClient(url);
  try {
    return await tryEnforcement(admin, mongoUrlWithoutCredentials(url));
  } finally {
    await admin.close();
  }
}

/** As the local stack decides it for its own cell. */
export const earnedMode = ({ notRefused }: Tried): 'server' | 'guard' =>
  notRefused.length === 0 ? 'server' : 'guard';
