/**
 * Batches once they are admitted. The tenants of a chunk go through the same states as a single tenant, in statements over the
 * whole chunk.
 */
import type { Pool } from 'pg';
import type { BatchFence } from '../domain/contracts.js';
import { type RecordedError, TenantryError, toRecordedError } from '../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { AllocationState, OperationStatus, StoreName } from '../domain/operation.js';
import { type CredentialJson, credentialsOf, type SealedCredential } from './credentials.js';
import { holdOperation, whileHolding } from './lock.js';
import { RESIDUE, restateResidue } from './residue.js';
import { whileUndoing } from './undo-lock.js';

/** A tenant of a chunk, with what its activities need. */
export interface ChunkTenant {
  readonly ordinal: number;
  readonly tenantId: TenantId;
  readonly generation: number;
  readonly cell: CellName;
  readonly credentials: readonly SealedCredential[];
}

/** A tenant that is to be undone. */
export interface DoomedTenant extends Pick<ChunkTenant, 'tenantId' | 'cell' | 'generation'> {
  /** When its undo began. What the ledger marks as possibly there after that may have been made after the undo looked. */
  readonly since: string;
}

export interface TenantFailure {
  readonly tenantId: TenantId;
  readonly error: RecordedError;
}

// The operation's row is locked: a statement that waited for a close to commit finds it over, and a close waits for it.
const OP = `op AS (SELECT id FROM operation WHERE id = $1 AND generation = $2 AND status = 'running' FOR SHARE)`;
const RUNNING = `SELECT i.ordinal, i.tenant_id, t.generation, t.cell
  FROM op JOIN batch_item i ON i.operation_id = op.id JOIN tenant t ON t.id = i.tenant_id
 WHERE i.ordinal = ANY ($3::int[]) AND i.status = 'running'`;

export function batchRepository(pool: Pool, undoing: Pool, takingBack: Pool) {
  return {
    /**
     * Begins an attempt at a step.
     * @returns its number, and the tenants of the chunk that are still being provisioned; none when the operation was overtaken
     */
    async begin(
      fence: BatchFence,
      step: string,
    ): Promise<{ readonly attempt: number | undefined; readonly tenants: ChunkTenant[] }> {
      const { rows } = await pool.query<{
        ordinal: number;
        tenant_id: TenantId;
        generation: string;
        cell: CellName;
        credentials: CredentialJson[];
        attempts: number;
      }>({
        name: 'batch-begin',
        text: `WITH ${OP}, step AS (
                 INSERT INTO operation_step (operation_id, name, status, attempts)
                 SELECT id, $4, 'running', 1 FROM op
                 ON CONFLICT (operation_id, name) DO UPDATE
                   SET status = 'running', attempts = operation_step.attempts + 1, finished_at = NULL
                 RETURNING attempts)
               SELECT r.*, (SELECT attempts FROM step), (SELECT jsonb_agg(jsonb_build_object('store', store, 'version', version,
                                     'sealed', encode(sealed, 'base64')))
                              FROM (SELECT DISTINCT ON (store) * FROM credential WHERE tenant_id = r.tenant_id
                                     ORDER BY store, version DESC) c) AS credentials
                 FROM (${RUNNING}) r ORDER BY r.ordinal`,
        values: [fence.operationId, fence.attempt, fence.ordinals, step],
      });
      const tenants = rows.map((row) => ({
        ordinal: row.ordinal,
        tenantId: row.tenant_id,
        generation: Number(row.generation),
        cell: row.cell,
        credentials: credentialsOf(row.credentials),
      }));
      return { attempt: rows[0]?.attempts, tenants };
    },

    /**
     * Records a step of a chunk: the allocations of the tenants that are done, and the others as failed.
     * @returns those of `done` that are still being provisioned; the others are being undone, or have been
     * @throws TenantryError STALE_GENERATION when the operation was overtaken meanwhile.
     */
    async finish(
      fence: BatchFence,
      step: string,
      result: {
        done: readonly TenantId[];
        failed: readonly TenantFailure[];
        stores: readonly StoreName[];
        allocations: AllocationState;
        evidence: unknown;
      },
    ): Promise<readonly TenantId[]> {
      const { rows } = await pool.query<{ kept: TenantId[] }>({
        name: 'batch-finish',
        text: `WITH ${OP},
               -- An attempt that finds all tenants active has seen none, and leaves what the one before has seen.
               step AS (UPDATE operation_step s SET status = 'succeeded', finished_at = clock_timestamp(),
                               evidence = coalesce(nullif($4::jsonb, 'null'), s.evidence)
                         FROM op WHERE s.operation_id = op.id AND s.name = $3),
               -- The undo of a tenant begins after this statement; a tenant whose undo has begun is not among these.
               held AS (SELECT i.tenant_id FROM op JOIN batch_item i ON i.operation_id = op.id
                         WHERE i.tenant_id = ANY ($6::uuid[] || $8::uuid[]) AND i.status = 'running'
                         ORDER BY i.ordinal FOR NO KEY UPDATE OF i),
               kept AS (SELECT tenant_id FROM held WHERE tenant_id = ANY ($6::uuid[])),
               ledger AS (UPDATE allocation a SET state = $5, updated_at = clock_timestamp()
                           -- The list is named again, so that the index is used whatever the planner expects of the join.
                           FROM kept WHERE a.tenant_id = kept.tenant_id AND a.tenant_id = ANY ($6::uuid[]) AND a.store = ANY ($7)
                            AND a.state IN ('intended', 'created')),
               -- An attempt that was given up may fail at what a later one has made: that failure is ignored. A failed
               -- verification always counts.
               failed AS (UPDATE batch_item i SET status = 'failed', error = f.error
                           FROM held JOIN unnest($8::uuid[], $9::jsonb[]) AS f(tenant_id, error) USING (tenant_id)
                          WHERE i.operation_id = $1 AND i.tenant_id = held.tenant_id
                            AND ($5 = 'verified' OR EXISTS (SELECT FROM allocation a WHERE a.tenant_id = i.tenant_id
                                                              AND a.store = ANY ($7) AND a.state = 'intended')))
               SELECT ARRAY (SELECT tenant_id FROM kept) AS kept FROM op`,
        values: [
          fence.operationId,
          fence.attempt,
          step,
          JSON.stringify(result.evidence ?? null),
          result.allocations,
          result.done,
          result.stores,
          result.failed.map((failure) => failure.tenantId),
          result.failed.map((failure) => JSON.stringify(failure.error)),
        ],
      });
      if (rows[0] === undefined) throw new TenantryError('STALE_GENERATION');
      return rows[0].kept;
    },

    /** Records why the newest attempt at a step failed, while its operation runs. */
    async failStep(fence: BatchFence, step: string, attempt: number, error: RecordedError): Promise<void> {
      await pool.query(
        `WITH ${OP}
         UPDATE operation_step s SET status = 'failed', finished_at = clock_timestamp(), last_error = $5 FROM op
          WHERE s.operation_id = op.id AND s.name = $3 AND s.attempts = $4`,
        [fence.operationId, fence.attempt, step, attempt, JSON.stringify(error)],
      );
    },

    /**
     * Has `work` take back what an overtaken step made, for those of the tenants that are being undone or have been. The others
     * were made again by a retry, or are being made; for them the ledger keeps the earlier generation of these things. What
     * `work` could not take back is marked in the ledger as possibly there.
     * @returns why `work` failed, which is in the ledger; where this throws, nothing is
     */
    takeBack<T extends Pick<ChunkTenant, 'tenantId' | 'generation'>>(
      fence: BatchFence,
      tenants: readonly T[],
      stores: readonly StoreName[],
      work: (tenants: readonly T[]) => Promise<PromiseSettledResult<unknown>[]>,
    ): Promise<readonly unknown[]> {
      return whileUndoing(takingBack, fence.operationId, async (client) => {
        await pool.query(
          // A withdrawal comes before this, and then the tenants have failed, or after it. On another connection, so that the
          // row locks are not held during `work`.
          `WITH anew AS (SELECT id FROM operation WHERE id = $1 AND status = 'running' FOR SHARE)
           UPDATE allocation a SET generation = made.generation
             FROM anew, unnest($2::uuid[], $3::bigint[]) AS made(tenant_id, generation)
            WHERE a.tenant_id = made.tenant_id AND a.store = ANY ($4) AND a.generation > made.generation`,
          [
            fence.operationId,
            tenants.map(({ tenantId }) => tenantId),
            tenants.map(({ generation }) => generation),
            stores,
          ],
        );
        const { rows } = await client.query<{ id: TenantId }>(
          `SELECT t.id FROM batch_item i JOIN tenant t ON t.id = i.tenant_id
            WHERE i.operation_id = $1 AND t.id = ANY ($2::uuid[]) AND i.status IN ('failed', 'cancelled')
              AND t.state IN ('provisioning', 'failed')`,
          [fence.operationId, tenants.map(({ tenantId }) => tenantId)],
        );
        const overtaken = tenants.filter(({ tenantId }) => rows.some(({ id }) => id === tenantId));
        if (overtaken.length === 0) return [];
        const results = await work(overtaken);
        const left = overtaken.filter((_, i) => results[i]?.status === 'rejected');
        await holdOperation(client, fence.operationId);
        await client.query(
          // Also what an undo is about to record as released, since it looked too early.
          `UPDATE allocation SET state = 'intended', updated_at = clock_timestamp()
            WHERE tenant_id = ANY ($1::uuid[]) AND store = ANY ($2) AND state IN ('intended', 'released')`,
          [left.map(({ tenantId }) => tenantId), stores],
        );
        await restateResidue(client, fence.operationId);
        return results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
      });
    },

    /**
     * provisioning -> active, for those of a chunk whose every allocation was verified.
     * @returns how many of the chunk have failed by now, in any step: the answer of an earlier step may have been lost
     */
    async activate(fence: BatchFence): Promise<number> {
      const { rows } = await pool.query<{ failed: number }>({
        name: 'batch-activate',
        text: `WITH ${OP}, ready AS (
                 SELECT r.* FROM (${RUNNING}) r
                  WHERE NOT EXISTS (SELECT FROM allocation WHERE tenant_id = r.tenant_id AND state <> 'verified')),
               moved AS (
                 UPDATE tenant t SET state = 'active', updated_at = clock_timestamp() FROM ready
                  WHERE t.id = ready.tenant_id AND t.state = 'provisioning' AND t.generation = ready.generation
                 RETURNING t.id),
               done AS (
                 UPDATE batch_item i SET status = 'succeeded' FROM moved
                  WHERE i.operation_id = $1 AND i.tenant_id = moved.id)
               SELECT count(*)::int AS failed FROM batch_item
                WHERE operation_id = $1 AND ordinal = ANY ($3::int[]) AND status IN ('failed', 'cancelled')`,
        values: [fence.operationId, fence.attempt, fence.ordinals],
      });
      return rows[0]?.failed ?? 0;
    },

    /** Marks those of a chunk that are still being provisioned as failed or cancelled: they are to be undone. */
    async fail(fence: BatchFence, status: 'failed' | 'cancelled', error: RecordedError): Promise<void> {
      await pool.query(
        `WITH ${OP}
         UPDATE batch_item i SET status = $4, error = $5 FROM (${RUNNING}) r
          WHERE i.operation_id = $1 AND i.ordinal = r.ordinal`,
        [fence.operationId, fence.attempt, fence.ordinals, status, JSON.stringify(error)],
      );
    },

    /** Runs an undo; no retry is admitted meanwhile. */
    undo: (fence: BatchFence, work: () => Promise<void>): Promise<void> =>
      whileUndoing(undoing, fence.operationId, work),

    /** Those of a chunk that failed and whose tenant is not closed yet. */
    async toUndo(fence: BatchFence): Promise<DoomedTenant[]> {
      const { rows } = await pool.query<DoomedTenant>(
        // An undo may die half-way. So the ledger says 'intended' from its beginning: these things may be there, or may not.
        `WITH ${OP}, doomed AS (
           SELECT t.id AS "tenantId", t.cell, t.generation::int AS generation, now()::text AS since
             FROM op JOIN batch_item i ON i.operation_id = op.id JOIN tenant t ON t.id = i.tenant_id
            WHERE i.ordinal = ANY ($3::int[]) AND i.status IN ('failed', 'cancelled') AND t.state = 'provisioning'),
         doubted AS (UPDATE allocation a SET state = 'intended', updated_at = now() FROM doomed
                      WHERE a.tenant_id = doomed."tenantId" AND a.state IN ('created', 'verified'))
         SELECT * FROM doomed`,
        [fence.operationId, fence.attempt, fence.ordinals],
      );
      return rows;
    },

    /**
     * Records tenants as failed and, if everything of them was removed, their allocations as released. It records the latter even
     * if the run gave the undo up and closed the operation meanwhile: what the undo saw still holds, because no retry is
     * admitted while it is at work.
     */
    undone: (fence: BatchFence, tenants: readonly DoomedTenant[], released: boolean): Promise<void> =>
      whileHolding(pool, fence.operationId, async (client) => {
        await client.query(
          `WITH op AS (SELECT id FROM operation WHERE id = $1 AND generation = $2 AND (status = 'running' OR $5)),
           ledger AS (UPDATE allocation a SET state = 'released', updated_at = clock_timestamp()
                       FROM op, unnest($3::uuid[], $4::timestamptz[]) AS gone(tenant_id, since)
                      WHERE $5 AND a.tenant_id = gone.tenant_id AND a.updated_at <= gone.since)
           UPDATE tenant SET state = 'failed', updated_at = clock_timestamp() FROM op
            WHERE tenant.id = ANY ($3::uuid[]) AND state = 'provisioning'`,
          [
            fence.operationId,
            fence.attempt,
            tenants.map(({ tenantId }) => tenantId),
            tenants.map(({ since }) => since),
            released,
          ],
        );
        await restateResidue(client, fence.operationId);
      }),

    /** Ends the operation: succeeded when every admitted tenant is active. Run again, it says the same. */
    close: (
      operationId: OperationId,
      attempt: number,
    ): Promise<{ status: OperationStatus; failed: number; total: number }> =>
      whileHolding(pool, operationId, async (client) => {
        // Of a chunk whose end could not be recorded. Nobody goes on with them, and what is left of them is residue.
        await client.query(
          `UPDATE batch_item i SET status = 'cancelled', error = $3 FROM operation o
            WHERE o.id = $1 AND o.generation = $2 AND o.status = 'running'
              AND i.operation_id = o.id AND i.status = 'running'`,
          [operationId, attempt, JSON.stringify(toRecordedError(new TenantryError('CANCELLED')))],
        );
        const { rows } = await client.query<{ total: number; failed: number; cancelled: number }>(
          `SELECT count(*)::int AS total, count(*) FILTER (WHERE status = 'failed')::int AS failed,
                  count(*) FILTER (WHERE status IN ('cancelled', 'running'))::int AS cancelled
             FROM batch_item WHERE operation_id = $1 AND tenant_id IS NOT NULL`,
          [operationId],
        );
        const { total = 0, failed = 0, cancelled = 0 } = rows[0] ?? {};
        const status: OperationStatus = cancelled > 0 ? 'cancelled' : failed > 0 ? 'failed' : 'succeeded';
        const error =
          status === 'succeeded'
            ? null
            : new TenantryError('BATCH_INCOMPLETE', { failed: failed + cancelled, total });
        await client.query(
          `WITH left_over AS (
             SELECT ${RESIDUE} AS residue
               FROM batch_item i JOIN allocation a ON a.tenant_id = i.tenant_id
              WHERE i.operation_id = $1 AND i.status IN ('failed', 'cancelled') AND a.state <> 'released'),
           op AS (
             UPDATE operation SET status = $3, error = $4, residue = left_over.residue, finished_at = clock_timestamp()
               FROM left_over WHERE id = $1 AND generation = $2 AND status = 'running' RETURNING id, error),
           -- Tenants that failed in a run which was terminated before it undid them can be retried, like all that failed.
           tenants AS (
             UPDATE tenant t SET state = 'failed', updated_at = clock_timestamp() FROM op JOIN batch_item i ON i.operation_id = op.id
              WHERE i.status IN ('failed', 'cancelled') AND t.id = i.tenant_id AND t.state = 'provisioning')
           -- Nobody waits any more for an attempt that still runs. Where all tenants are active, its step has succeeded.
           UPDATE operation_step s SET finished_at = clock_timestamp(), last_error = coalesce(op.error, s.last_error),
                  status = CASE WHEN op.error IS NULL THEN 'succeeded' ELSE 'failed' END
             FROM op WHERE s.operation_id = op.id AND (s.status = 'running' OR s.status = 'failed' AND op.error IS NULL)`,
          [operationId, attempt, status, error && JSON.stringify(toRecordedError(error))],
        );
        return { status, failed: failed + cancelled, total };
      }),
  };
}
