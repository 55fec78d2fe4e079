/** Isolation probes in the catalogue: operations of no tenant's, with a step for each cell, and whom to try as. */
import type { Pool } from 'pg';
import { type RecordedError, TenantryError, toRecordedError } from '../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { OperationStatus } from '../domain/operation.js';
import { type CredentialJson, credentialsOf, type SealedCredential } from './credentials.js';

/** A tenant with the newest of its passwords in each store. */
export interface ProbedParty {
  readonly tenantId: TenantId;
  readonly credentials: readonly SealedCredential[];
}

/** None takes so long: a cell that is away is given up after minutes. */
const LOST_AFTER = '1 day';

export function isolationProbeRepository(pool: Pool) {
  return {
    /**
     * Closes, too, those whose run was terminated: nobody else will.
     * @returns the cells to look into. Run again, it finds its own work.
     */
    async begin(id: OperationId): Promise<CellName[]> {
      await pool.query(
        `WITH lost AS (UPDATE operation SET status = 'cancelled', error = $2, finished_at = clock_timestamp()
                        WHERE kind = 'isolation-probe' AND status = 'running' AND started_at < now() - $3::interval)
         INSERT INTO operation (id, kind, status, generation) VALUES ($1, 'isolation-probe', 'running', 1)
         ON CONFLICT (id) DO NOTHING`,
        [id, JSON.stringify(toRecordedError(new TenantryError('CANCELLED'))), LOST_AFTER],
      );
      const { rows } = await pool.query<{ name: CellName }>(
        'SELECT name FROM cell WHERE prepared_at IS NOT NULL ORDER BY name',
      );
      return rows.map((row) => row.name);
    },

    /** Active tenants of a cell at random, and its canary, so that one tenant alone is tried too. */
    async sample(cell: CellName, count: number): Promise<ProbedParty[]> {
      const { rows } = await pool.query<{ tenantId: TenantId; credentials: CredentialJson[] }>(
        `WITH chosen AS (
           (SELECT id FROM tenant WHERE cell = $1 AND state = 'active' AND NOT system ORDER BY random() LIMIT $2)
           UNION ALL
           SELECT id FROM tenant WHERE cell = $1 AND state = 'active' AND system)
         SELECT chosen.id AS "tenantId",
                (SELECT jsonb_agg(jsonb_build_object('store', c.store, 'version', c.version,
                                                     'sealed', encode(c.sealed, 'base64')))
                   FROM credential c WHERE c.tenant_id = chosen.id
                    AND c.version = (SELECT max(version) FROM credential
                                      WHERE tenant_id = chosen.id AND store = c.store)) AS credentials
           FROM chosen`,
        [cell, count],
      );
      return rows.map(({ tenantId, credentials }) => ({
        tenantId,
        credentials: credentialsOf(credentials),
      }));
    },

    /** Records what was seen in a cell by the newest attempt; a breach, whichever attempt saw it. */
    async record(
      id: OperationId,
      cell: CellName,
      attempt: number,
      seen: { readonly evidence: unknown } | { readonly error: RecordedError },
    ): Promise<void> {
      const error = 'error' in seen ? JSON.stringify(seen.error) : null;
      await pool.query(
        `INSERT INTO operation_step AS s (operation_id, name, status, attempts, finished_at, last_error, evidence)
         SELECT id, $2, $3, $6, clock_timestamp(), $4, $5 FROM operation WHERE id = $1 AND status = 'running'
         ON CONFLICT (operation_id, name) DO UPDATE SET status = $3, attempts = greatest(s.attempts, $6),
           finished_at = clock_timestamp(), last_error = coalesce($4, s.last_error), evidence = $5
           WHERE $4::jsonb ->> 'code' = 'ISOLATION_BREACH'
              OR s.attempts <= $6 AND s.last_error ->> 'code' IS DISTINCT FROM 'ISOLATION_BREACH'`,
        [
          id,
          `probe ${cell}`,
          error === null ? 'succeeded' : 'failed',
          error,
          JSON.stringify('evidence' in seen ? seen.evidence : null),
          attempt,
        ],
      );
    },

    /** Run again, it changes nothing. One that has not begun is written down as over: begun late, it finds that it is. */
    async close(id: OperationId, error: RecordedError | null): Promise<void> {
      const status: OperationStatus =
        error === null ? 'succeeded' : error.code === 'CANCELLED' ? 'cancelled' : 'failed';
      await pool.query(
        `INSERT INTO operation AS o (id, kind, status, generation, error, finished_at)
         VALUES ($1, 'isolation-probe', $2, 1, $3, clock_timestamp())
         ON CONFLICT (id) DO UPDATE SET status = $2, error = $3, finished_at = clock_timestamp()
          WHERE o.status = 'running'`,
        [id, status, error === null ? null : JSON.stringify(error)],
      );
    },
  };
}
