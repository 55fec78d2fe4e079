/**
 * The steps of an operation and the allocations they make. Every write is fenced: it happens only while the operation
 * runs under the tenant's present generation. The row lock keeps that generation from changing meanwhile.
 */
import type { Pool } from 'pg';
import { type RecordedError, TenantryError } from '../domain/errors.js';
import type { Closed, Fence } from '../domain/contracts.js';
import type { CellName } from '../domain/ids.js';
import type {
  Allocation,
  AllocationState,
  OperationStatus,
  Residue,
  StepName,
  StoreName,
} from '../domain/operation.js';
import { type CredentialJson, credentialsOf, type SealedCredential } from './credentials.js';
import { holdOperation, whileHolding } from './lock.js';
import { RESIDUE, restateResidue } from './residue.js';
import { whileUndoing } from './undo-lock.js';

export interface BegunStep {
  readonly cell: CellName;
  readonly attempts: number;
  /** Of every store. */
  readonly allocations: readonly Allocation[];
  /** The newest version for each store. */
  readonly credentials: readonly SealedCredential[];
}

export interface Undone {
  readonly evidence: unknown;
  /** What could not be removed. */
  readonly residue: readonly Residue[];
}

interface BegunRow {
  readonly cell: CellName;
  readonly attempts: number;
  readonly allocations: Allocation[] | null;
  readonly credentials: CredentialJson[] | null;
}

// Both rows are locked: a statement that waited for a close or an undo to commit reads what those have written.
const FENCED = `
  SELECT o.id, t.id AS tenant_id, t.cell FROM operation o JOIN tenant t ON t.id = o.tenant_id
   WHERE o.id = $1 AND t.id = $2 AND t.generation = $3 AND o.generation = $3 AND o.status = 'running'`;
const FORWARD = `fenced AS (${FENCED} AND NOT o.undoing FOR SHARE OF o, t)`;
// An undo may die half-way. So the ledger says 'intended' from its beginning: the store's things may be there, or may not.
const BACKWARD = `fenced AS (${FENCED} FOR NO KEY UPDATE OF o FOR SHARE OF t),
  turned AS (UPDATE operation SET undoing = true FROM fenced WHERE operation.id = fenced.id AND NOT undoing),
  doubted AS (UPDATE allocation a SET state = 'intended', updated_at = clock_timestamp() FROM fenced
               WHERE a.tenant_id = fenced.tenant_id AND $4 = 'undo-' || a.store
                 AND a.state IN ('created', 'verified'))`;
const namesOf = (residue: readonly Residue[]): string[] =>
  residue.map(({ store, kind, name }) => `${store}/${kind}/${name}`);
const isUndo = (step: StepName): boolean => step.startsWith('undo-');

export function stepRepository(pool: Pool, undoing: Pool, takingBack: Pool) {
  const fenced = async <Row extends object>(
    name: string,
    sql: string,
    fence: Fence,
    step: StepName,
    values: unknown[],
  ): Promise<Row> => {
    const { rows } = await pool.query<Row>({
      name: isUndo(step) ? `${name}-undo` : name,
      text: `WITH ${isUndo(step) ? BACKWARD : FORWARD}, ${sql}`,
      values: [fence.operationId, fence.tenantId, fence.generation, step, ...values],
    });
    const row = rows[0];
    if (row === undefined) throw new TenantryError('STALE_GENERATION');
    return row;
  };

  return {
    /** @throws TenantryError STALE_GENERATION when another operation has taken over. */
    async begin(fence: Fence, step: StepName): Promise<BegunStep> {
      const row = await fenced<BegunRow>(
        'step-begin',
        `step AS (
           INSERT INTO operation_step (operation_id, name, status, attempts)
           SELECT id, $4, 'running', 1 FROM fenced
           ON CONFLICT (operation_id, name) DO UPDATE
             SET status = 'running', attempts = operation_step.attempts + 1, finished_at = NULL
           RETURNING attempts)
         SELECT fenced.cell, step.attempts,
           (SELECT jsonb_agg(jsonb_build_object('store', store, 'kind', kind, 'name', name, 'state', state,
                     'specHash', spec_hash, 'generation', generation))
              FROM allocation WHERE tenant_id = $2) AS allocations,
           (SELECT jsonb_agg(jsonb_build_object('store', c.store, 'version', c.version,
                     'sealed', encode(c.sealed, 'base64')))
              FROM credential c WHERE c.tenant_id = $2
               AND c.version = (SELECT max(version) FROM credential WHERE tenant_id = $2 AND store = c.store)
           ) AS credentials
         FROM fenced, step`,
        fence,
        step,
        [],
      );
      return {
        cell: row.cell,
        attempts: row.attempts,
        allocations: row.allocations ?? [],
        credentials: credentialsOf(row.credentials),
      };
    },

    /**
     * Records that a step is done, and the state that this gives the allocations of these stores. An attempt that was given up
     * may end after the tenant was verified: it does not take the verification back.
     */
    async finish(
      fence: Fence,
      step: StepName,
      result: { evidence: unknown; allocations: AllocationState; stores: readonly StoreName[] },
    ): Promise<void> {
      await fenced(
        'step-finish',
        `step AS (UPDATE operation_step SET status = 'succeeded', finished_at = clock_timestamp(), evidence = $5
                   FROM fenced WHERE operation_id = fenced.id AND name = $4),
         ledger AS (UPDATE allocation a SET state = $6, updated_at = clock_timestamp()
                     FROM fenced WHERE a.tenant_id = fenced.tenant_id AND a.store = ANY ($7) AND a.state <> 'verified')
         SELECT id FROM fenced`,
        fence,
        step,
        [JSON.stringify(result.evidence ?? null), result.allocations, result.stores],
      );
    },

    /**
     * Records why the newest attempt failed. Earlier attempts, which were given up, change nothing. Callers need not retry
     * this: the next attempt, or the close of the operation, records the step anew.
     */
    async fail(fence: Fence, step: StepName, attempt: number, error: RecordedError): Promise<void> {
      await fenced(
        'step-fail',
        `step AS (UPDATE operation_step SET status = 'failed', finished_at = clock_timestamp(), last_error = $5
                   FROM fenced WHERE operation_id = fenced.id AND name = $4 AND attempts = $6)
         SELECT id FROM fenced`,
        fence,
        step,
        [JSON.stringify(error), attempt],
      );
    },

    /**
     * Runs an undo and records what it leaves. It records that even if its run gave it up and closed the operation
     * meanwhile: what it saw still holds, because no retry is admitted while it is at work.
     * @throws TenantryError STALE_GENERATION, before `work`, when the operation is over or another attempt runs.
     */
    async undo<T extends Undone>(
      fence: Fence,
      step: StepName,
      stores: readonly StoreName[],
      work: () => Promise<T>,
    ): Promise<T> {
      const values = [fence.operationId, fence.tenantId, fence.generation];
      return whileUndoing(undoing, fence.operationId, async (client) => {
        const { rows } = await client.query<{ since: string }>(
          `SELECT clock_timestamp()::text AS since FROM (${FENCED}) running`,
          values,
        );
        if (rows[0] === undefined) throw new TenantryError('STALE_GENERATION');
        const undone = await work();
        // A close of the operation comes before this or after it, so that both agree on what is left.
        await holdOperation(client, fence.operationId);
        await client.query(
          `WITH step AS (UPDATE operation_step SET status = 'succeeded', finished_at = clock_timestamp(), evidence = $3
                          WHERE operation_id = $1 AND name = $2)
           UPDATE allocation SET state = 'released', updated_at = clock_timestamp()
            WHERE tenant_id = $4 AND store = ANY ($5) AND NOT (store || '/' || kind || '/' || name = ANY ($6))
              -- Marked since the undo began, by a step that could not take back what it made: the undo may not have seen it.
              AND updated_at <= $7`,
          [
            fence.operationId,
            step,
            JSON.stringify(undone.evidence ?? null),
            fence.tenantId,
            stores,
            namesOf(undone.residue),
            rows[0].since,
          ],
        );
        await restateResidue(client, fence.operationId);
        return undone;
      });
    },

    /**
     * Runs `work`, which takes back what an overtaken run of a step made. It does not run where the tenant is active or a retry
     * is making it: then the things belong to the tenant. For a retry the ledger keeps the earlier generation of these things.
     * So if the retry is withdrawn before it has begun, they are not recorded as released with what it had yet to make.
     * @returns why `work` failed, which is in the ledger; where this throws, nothing is
     */
    takeBack(
      fence: Fence,
      stores: readonly StoreName[],
      work: () => Promise<unknown>,
    ): Promise<readonly unknown[]> {
      return whileUndoing(takingBack, fence.operationId, async (client) => {
        await pool.query(
          // A withdrawal comes before this, and then the tenant has failed, or after it. On another connection, so that the
          // row locks are not held during `work`.
          `WITH anew AS (SELECT tenant_id FROM operation WHERE id = $1 AND status = 'running' AND NOT undoing FOR SHARE)
           UPDATE allocation a SET generation = $3 FROM anew
            WHERE a.tenant_id = anew.tenant_id AND a.store = ANY ($2) AND a.generation > $3`,
          [fence.operationId, stores, fence.generation],
        );
        const { rowCount } = await client.query(
          `SELECT FROM operation o JOIN tenant t ON t.id = o.tenant_id
            WHERE o.id = $1 AND t.id = $2 AND (o.undoing OR t.state = 'failed')`,
          [fence.operationId, fence.tenantId],
        );
        if (rowCount === 0) return [];
        try {
          await work();
          return [];
        } catch (failure) {
          // What may be there again must be in the ledger, for the next retry or purge to find. That goes for what an undo is
          // about to record as released too, since it looked too early, and for the residue that a close has recorded.
          await holdOperation(client, fence.operationId);
          await client.query(
            `UPDATE allocation SET state = 'intended', updated_at = clock_timestamp()
              WHERE tenant_id = $1 AND store = ANY ($2) AND state IN ('intended', 'released')`,
            [fence.tenantId, stores],
          );
          await restateResidue(client, fence.operationId);
          return [failure];
        }
      });
    },

    /** provisioning -> active, once every allocation was verified. Run again, it finds that it is done. */
    activate: (fence: Fence): Promise<void> =>
      whileHolding(pool, fence.operationId, async (client) => {
        const values = [fence.operationId, fence.tenantId, fence.generation];
        const { rowCount } = await client.query({
          name: 'step-activate',
          text: `WITH op AS (
                   UPDATE operation SET status = 'succeeded', finished_at = clock_timestamp()
                    WHERE id = $1 AND status = 'running' AND generation = $3 AND NOT undoing
                      AND NOT EXISTS (SELECT FROM allocation WHERE tenant_id = $2 AND state <> 'verified')
                      AND EXISTS (SELECT FROM tenant WHERE id = $2 AND state = 'provisioning' AND generation = $3)
                    RETURNING id),
                 moved AS (
                   UPDATE tenant SET state = 'active', updated_at = clock_timestamp()
                     FROM op WHERE tenant.id = $2 AND generation = $3 AND state = 'provisioning' RETURNING tenant.id),
                 -- The tenant is verified, whatever an attempt that was given up has recorded of these steps.
                 proved AS (
                   UPDATE operation_step s SET status = 'succeeded', finished_at = coalesce(s.finished_at, clock_timestamp())
                     FROM op WHERE s.operation_id = op.id AND s.status <> 'succeeded' AND s.name <> 'activate'),
                 step AS (
                   INSERT INTO operation_step (operation_id, name, status, attempts, finished_at)
                   SELECT id, 'activate', 'succeeded', 1, clock_timestamp() FROM op
                   ON CONFLICT (operation_id, name) DO UPDATE SET status = 'succeeded',
                     attempts = operation_step.attempts + 1, finished_at = clock_timestamp())
                 SELECT id FROM moved`,
          values,
        });
        if (rowCount === 1) return;
        const earlier = await client.query(
          `SELECT FROM operation WHERE id = $1 AND tenant_id = $2 AND generation = $3 AND status = 'succeeded'`,
          values,
        );
        if (earlier.rowCount === 0) throw new TenantryError('STALE_GENERATION');
      }),

    /**
     * Ends an operation that did not succeed: provisioning -> failed. What the ledger does not call released is its residue.
     * Run again, or too late, it changes nothing and returns how the operation ended.
     */
    close: (
      fence: Fence,
      end: { status: Extract<OperationStatus, 'failed' | 'cancelled'>; error: RecordedError },
    ): Promise<Closed> =>
      whileHolding(pool, fence.operationId, async (client) => {
        const { rows } = await client.query<Closed>(
          `WITH left_over AS (
             SELECT ${RESIDUE} AS residue FROM allocation a WHERE a.tenant_id = $2 AND a.state <> 'released'),
           op AS (
             -- A run that was terminated in its undo may be followed by another, whose steps are refused as stale. The reason why
             -- the first one failed is kept.
             UPDATE operation SET status = $4, residue = left_over.residue, finished_at = clock_timestamp(),
                    error = coalesce((SELECT last_error FROM operation_step
                                       WHERE operation_id = $1 AND undoing AND $5::jsonb ->> 'code' = 'STALE_GENERATION'
                                         AND name NOT LIKE 'undo-%' AND status = 'failed' ORDER BY finished_at DESC LIMIT 1), $5)
               FROM left_over WHERE id = $1 AND status = 'running' AND generation = $3
             RETURNING id, status, operation.residue),
           given_up AS (
             UPDATE operation_step s SET status = 'failed', finished_at = clock_timestamp(), last_error = $5
               FROM op WHERE s.operation_id = op.id AND s.status = 'running'),
           moved AS (
             UPDATE tenant SET state = 'failed', updated_at = clock_timestamp()
               FROM op WHERE tenant.id = $2 AND generation = $3 AND state = 'provisioning')
           SELECT status, residue FROM op`,
          [fence.operationId, fence.tenantId, fence.generation, end.status, JSON.stringify(end.error)],
        );
        if (rows[0] !== undefined) return rows[0];
        const earlier = await client.query<Closed>(
          `SELECT status, residue FROM operation WHERE id = $1 AND tenant_id = $2 AND generation = $3`,
          [fence.operationId, fence.tenantId, fence.generation],
        );
        if (earlier.rows[0] === undefined) throw new TenantryError('STALE_GENERATION');
        return earlier.rows[0];
      }),
  };
}
