// What the worker and the API of the local stack live by: roles, databases, secrets, and the cell's earned mode.

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { MongoClient } from 'mongodb';
import { bootstrap, postgresUrl, type RoleName, ROLES } from '../catalogue/bootstrap.js';
import { migrateCatalogue } from '../catalogue/migrate.js';
import { mongoUrlWithoutCredentials } from '../tenancy/cell-connections.js';
import { tryEnforcement } from '../tenancy/mongo/enforcement.js';
import type { Report } from './report.js';
import { secretIn, writePrivate } from './secret.js';
import type { Stack } from './stack.js';

const CONTROL = 'tenantry_control';
const CELL = 'tenantry_cell';

export interface LocalEnvironment {
  /** Every TENANTRY_* variable that the worker and the API need. */
  readonly env: NodeJS.ProcessEnv;
  readonly token: { readonly value: string; readonly file: string; readonly isNew: boolean };
}

/** Makes roles and databases, migrates, and finds out which mode the MongoDB server has earned. */
export async function prepareEnvironment(
  stack: Stack,
  dataDir: string,
  report: Report,
): Promise<LocalEnvironment> {
  const secret = (name: string): string => secretIn(path.join(dataDir, `${name}.secret`));
  const passwords = Object.fromEntries(Object.keys(ROLES).map((role) => [role, secret(role)])) as Record<
    RoleName,
    string
  >;
  const adminUrl = stack.postgres.url;
  const [mode] = await Promise.all([
    earnedMode(stack.mongo.url, report),
    bootstrap({ adminUrl, passwords, controlDatabase: CONTROL, cellDatabase: CELL }).then(() =>
      migrateCatalogue(postgresUrl(adminUrl, CONTROL, 'owner', passwords)),
    ),
  ]);
  const tokenFile = path.join(dataDir, 'api-token.secret');
  const isNew = !existsSync(tokenFile);
  const rootKeyFile = path.join(dataDir, 'root-key.secret');
  if (!existsSync(rootKeyFile)) writePrivate(rootKeyFile, randomBytes(32).toString('base64'));
  const token = { value: secretIn(tokenFile), file: tokenFile, isNew };
  const cell = (role: RoleName): string => postgresUrl(adminUrl, CELL, role, passwords);
  return {
    token,
    env: {
      ...process.env,
      TENANTRY_CATALOGUE_URL: postgresUrl(adminUrl, CONTROL, 'catalogue', passwords),
      TENANTRY_TEMPORAL_ADDRESS: stack.temporal.url,
      TENANTRY_TEMPORAL_UI_URL: stack.temporalUiUrl,
      TENANTRY_ROOT_KEY: secretIn(rootKeyFile),
      TENANTRY_CELL_POSTGRES_OWNER_URL: cell('owner'),
      TENANTRY_CELL_POSTGRES_CONTROL_URL: cell('catalogue'),
      TENANTRY_CELL_POSTGRES_RUNTIME_URL: cell('runtime'),
      TENANTRY_CELL_POSTGRES_PURGE_URL: cell('purge'),
      TENANTRY_CELL_MONGO_URL: stack.mongo.url,
      TENANTRY_CELL_MONGO_ENFORCEMENT: mode,
      TENANTRY_CELL_REDIS_URL: stack.redis.url,
      TENANTRY_API_TOKEN: token.value,
    },
  };
}

/** The operator's choice where there is one; else what the server that was found deserves, said aloud. */
async function earnedMode(url: string, report: Report): Promise<'server' | 'guard'> {
  const chosen = process.env['TENANTRY_CELL_MONGO_ENFORCEMENT'];
  if (chosen === 'server' || chosen === 'guard') return chosen;
  const admin = new MongoClient(url);
  try {
    const { notRefused } = await tryEnforcement(admin, mongoUrlWithoutCredentials(url));
    if (notRefused.length === 0) {
      report.info('MongoDB refused every attempt to reach another tenant: mongo.enforcement=server');
      return 'server';
    }
    report.info(
      `MongoDB did not refuse: ${notRefused.join('; ')}\n    so its isolation is weaker here: mongo.enforcement=guard`,
    );
    return 'guard';
  } finally {
    await admin.close();
  }
}
