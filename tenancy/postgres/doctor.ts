/**
 * Reads a cell's PostgreSQL catalogue and lists everything by which one tenant could reach another, or learn of one,
 * with the SQL that mends it. It changes nothing itself: what it proposes a DBA reads first.
 */
import type { ClientBase, Pool, PoolClient } from 'pg';
import type { Manifest } from '../../domain/manifest.js';
import { checkBuiltIns } from './doctor/built-in.js';
import { checkCell } from './doctor/cell.js';
import { checkCode } from './doctor/code.js';
import type { Check, Examination, Finding } from './doctor/finding.js';
import { checkGrants } from './doctor/grants.js';
import { checkForeignKeys, checkKeys } from './doctor/keys.js';
import { checkOwners } from './doctor/owners.js';
import { checkPolicies } from './doctor/policies.js';
import { checkRoles } from './doctor/roles.js';
import { checkServer } from './doctor/server.js';
import { checkSettings } from './doctor/settings.js';
import { checkSystem } from './doctor/system.js';
import { checkTables } from './doctor/tables.js';
import { checkViews } from './doctor/views.js';

export type { Finding, FindingKind } from './doctor/finding.js';

/** In the order in which what they propose can be run: a policy needs its column, a reference the key it names. */
const CHECKS: readonly Check[] = [
  checkRoles,
  checkSettings,
  checkCell,
  checkOwners,
  checkTables,
  checkKeys,
  checkForeignKeys,
  checkPolicies,
  checkViews,
  checkCode,
  checkGrants,
  checkBuiltIns,
  checkServer,
  checkSystem,
];

/**
 * Empty where the cell is sound. The findings stand in the order in which to run their `mend`, each as a superuser: the
 * schema owner may do it where it is about the product's own objects, and not about roles, settings or the server's
 * functions. What one mend brings to light the next examination finds, so: until there is none.
 * @param connection as the schema owner or a superuser, in no transaction
 */
export async function doctorPostgres(connection: ClientBase | Pool, manifest: Manifest): Promise<Finding[]> {
  if (!isPool(connection)) return examine(connection, manifest);
  const client = await connection.connect();
  let failure: Error | undefined;
  try {
    return await examine(client, manifest);
  } catch (error) {
    failure = error instanceof Error ? error : new Error('the examination failed', { cause: error });
    throw error;
  } finally {
    client.release(failure);
  }
}

async function examine(client: ClientBase | PoolClient, manifest: Manifest): Promise<Finding[]> {
  try {
    // One snapshot for all checks.
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    return await examineWithin(client, manifest);
  } finally {
    // Where the connection broke, that is what is to be told.
    await client.query('ROLLBACK').catch(() => undefined);
  }
}

/**
 * What the transaction sees that the connection is in.
 * @param client in a transaction or behind a savepoint, to be rolled back: its settings are changed
 */
export async function examineWithin(client: ClientBase | PoolClient, manifest: Manifest): Promise<Finding[]> {
  const examination: Examination = {
    manifest,
    ask: async <R extends object>(sql: string, values: readonly unknown[] = []) =>
      (await client.query<R>(sql, [...values])).rows,
  };
  const findings: Finding[] = [];
  // Under this path every name comes qualified. To compile what is asked once of a catalogue takes longer than to run it.
  await client.query('SET LOCAL search_path = pg_catalog; SET LOCAL jit = off');
  for (const check of CHECKS) findings.push(...(await check(examination)));
  return findings;
}

const isPool = (connection: ClientBase | Pool): connection is Pool => 'totalCount' in connection;
