/** The cells that tenants live in, as a product reaches them: read once each, resolved in this process' environment. */
import type { Pool } from 'pg';
import { catalogueError } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import type { CellName } from '../../domain/ids.js';
import { mongoUrlWithoutCredentials, refuseUnfitUrl } from '../cell-connections.js';
import type { CellServers } from './cell-servers.js';

/**
 * @throws TenantryError UNKNOWN_CELL, CATALOGUE_UNAVAILABLE, STORE_REFUSED (a MongoDB whose URL is unfit), or what
 *   `resolveSecret` throws
 */
export async function readCell(
  pool: Pool,
  name: CellName,
  resolveSecret: (reference: string) => string,
): Promise<CellServers> {
  const { rows } = await pool
    .query<{ postgres: string; mongo: string; redis: string; mongoEnforcement: 'server' | 'guard' }>(
      `SELECT postgres_runtime AS postgres, mongo, redis, mongo_enforcement AS "mongoEnforcement"
         FROM cell WHERE name = $1`,
      [name],
    )
    .catch((error: unknown) => {
      throw catalogueError(error);
    });
  const row = rows[0];
  if (row === undefined) throw new TenantryError('UNKNOWN_CELL');
  const mongoUrl = resolveSecret(row.mongo);
  refuseUnfitUrl(mongoUrl);
  return {
    name,
    postgresUrl: resolveSecret(row.postgres),
    // The product's environment should hold these two without credentials; where it holds the control plane's they go no
    // further than this line.
    mongoUrl: mongoUrlWithoutCredentials(mongoUrl),
    mongoEnforcement: row.mongoEnforcement,
    redisUrl: redisUrlWithoutCredentials(resolveSecret(row.redis)),
  };
}

function redisUrlWithoutCredentials(url: string): string {
  const parsed = new URL(url);
  parsed.username = '';
  parsed.password = '';
  return parsed.href;
}
