/**
 * Batches: many tenants admitted by one operation, in one transaction, with a result for each. From then on chunks of
 * them go through the same states as a single tenant, in statements over the whole chunk.
 */
import type { Pool, PoolClient } from 'pg';
import type { BatchAdmission, BatchFence, Refusal } from '../domain/contracts.js';
import { type RecordedError, TenantryError, toRecordedError } from '../domain/errors.js';
import { type CellName, newTenantId, type OperationId, type TenantId } from '../domain/ids.js';
import {
  type AllocationState,
  type OperationStatus,
  RETRYABLE_STATUSES,
  type StoreName,
} from '../domain/operation.js';
import type { CreateTenantBody } from '../domain/requests.js';
import {
  allocationColumns,
  type Blueprint,
  Refused,
  rememberRefusal,
  removeTenants,
  type SealedCredential,
  useUp,
} from './admission.js';
import { placeMany } from './cells.js';
import { whileHolding } from './lock.js';
import { transaction } from './pool.js';
import { afterUndoing, whileUndoing } from './undo-lock.js';

/** A tenant of a chunk, with what its activities need. */
export interface ChunkTenant {
  readonly ordinal: number;
  readonly tenantId: TenantId;
  readonly generation: number;
  readonly cell: CellName;
  readonly credentials: readonly SealedCredential[];
}

/** One that is to be undone. */
export interface DoomedTenant extends Pick<ChunkTenant, 'tenantId' | 'cell' | 'generation'> {
  /** When its undo began: what is doubted after that may be there when the undo has looked. */
  readonly since: string;
}

export interface TenantFailure {
  readonly tenantId: TenantId;
  readonly error: RecordedError;
}

export type BatchAdmissionResult = { readonly admitted: BatchAdmission } | { readonly refused: Refusal };

interface Item {
  readonly ordinal: number;
  readonly tenantId: TenantId;
  readonly body: CreateTenantBody;
}

const RUNNING = `SELECT i.ordinal, i.tenant_id, t.generation, t.cell
  FROM batch_item i JOIN tenant t ON t.id = i.tenant_id JOIN operation o ON o.id = i.operation_id
 WHERE i.operation_id = $1 AND o.generation = $2 AND o.status = 'running' AND i.ordinal = ANY ($3::int[])
   AND i.status = 'running'`;

export function batchRepository(pool: Pool) {
  return {
    /** Run again, it gives the answer of the first time. Attempt n + 1 takes up what failed in attempt n. */
    async admit(
      operationId: OperationId,
      attempt: number,
      blueprint: Blueprint,
    ): Promise<BatchAdmissionResult> {
      try {
        return {
          admitted: await transaction(pool, (client) => admit(client, operationId, attempt, blueprint)),
        };
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (attempt === 1) await rememberRefusal(pool, operationId, error.refusal);
        return { refused: error.refusal };
      }
    },

    /**
     * Takes an admission back before anything was made: a first one leaves nothing, a retry leaves what it found.
     */
    async withdraw(operationId: OperationId, attempt: number): Promise<void> {
      await transaction(pool, async (client) => {
        if (attempt > 1) await withdrawRetry(client, operationId, attempt);
        else await withdrawFirst(client, operationId);
      });
    },

    /**
     * Which attempt at the step this is, and the tenants of a chunk that are still on their way. None when the operation was
     * overtaken.
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
        credentials: { store: 'mongo' | 'redis'; version: number; sealed: string }[];
        attempts: number;
      }>({
        name: 'batch-begin',
        text: `WITH step AS (
                 INSERT INTO operation_step (operation_id, name, status, attempts)
                 SELECT id, $4, 'running', 1 FROM operation WHERE id = $1 AND generation = $2 AND status = 'running'
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
        credentials: row.credentials.map((c) => ({ ...c, sealed: Buffer.from(c.sealed, 'base64') })),
      }));
      return { attempt: rows[0]?.attempts, tenants };
    },

    /**
     * Records a step of a chunk: the allocations of those that came through, and the others as failed.
     * @returns those that came through and are still on their way; the others are being undone, or were
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
        text: `WITH op AS (SELECT id FROM operation WHERE id = $1 AND generation = $2 AND status = 'running' FOR SHARE),
               step AS (UPDATE operation_step s SET status = 'succeeded', finished_at = clock_timestamp(), evidence = $4
                         FROM op WHERE s.operation_id = op.id AND s.name = $3),
               kept AS (SELECT i.tenant_id FROM op JOIN batch_item i ON i.operation_id = op.id
                         WHERE i.tenant_id = ANY ($6::uuid[]) AND i.status = 'running'),
               ledger AS (UPDATE allocation a SET state = $5, updated_at = clock_timestamp()
                           FROM kept WHERE a.tenant_id = kept.tenant_id AND a.store = ANY ($7)
                            AND a.state IN ('intended', 'created')),
               -- What one attempt cannot make and another one has made is there: of an attempt that was given up, its failure is
               -- nobody's. A verification says what it saw, whichever attempt it is.
               failed AS (UPDATE batch_item i SET status = 'failed', error = f.error
                           FROM op, unnest($8::uuid[], $9::jsonb[]) AS f(tenant_id, error)
                          WHERE i.operation_id = op.id AND i.tenant_id = f.tenant_id AND i.status = 'running'
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
        `UPDATE operation_step s SET status = 'failed', finished_at = clock_timestamp(), last_error = $5 FROM operation o
          WHERE o.id = $1 AND o.generation = $2 AND o.status = 'running'
            AND s.operation_id = o.id AND s.name = $3 AND s.attempts = $4`,
        [fence.operationId, fence.attempt, step, attempt, JSON.stringify(error)],
      );
    },

    /**
     * Has `work` take back what an overtaken step made, for those of these tenants that are being undone or were: the others
     * have been made anew meanwhile. Where it could not, the ledger says that these things may be there.
     * @returns why it could not
     */
    takeBack<T extends { readonly tenantId: TenantId }>(
      fence: BatchFence,
      tenants: readonly T[],
      stores: readonly StoreName[],
      work: (tenants: readonly T[]) => Promise<PromiseSettledResult<unknown>[]>,
    ): Promise<readonly unknown[]> {
      return whileUndoing(pool, fence.operationId, async (client) => {
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
        await client.query(
          // Also of what an undo is about to call released: it has looked too early.
          `UPDATE allocation SET state = 'intended', updated_at = clock_timestamp()
            WHERE tenant_id = ANY ($1::uuid[]) AND store = ANY ($2) AND state IN ('intended', 'released')`,
          [left.map(({ tenantId }) => tenantId), stores],
        );
        return results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
      });
    },

    /**
     * provisioning -> active, for those of a chunk whose every allocation was verified.
     * @returns how many of the chunk have failed by now, whoever recorded it: the answer of the attempt that did may be lost
     */
    async activate(fence: BatchFence): Promise<number> {
      const { rows } = await pool.query<{ failed: number }>({
        name: 'batch-activate',
        text: `WITH ready AS (
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

    /** Marks those of a chunk that are still running: they did not come through, and are to be undone. */
    async fail(fence: BatchFence, status: 'failed' | 'cancelled', error: RecordedError): Promise<void> {
      await pool.query(
        `UPDATE batch_item i SET status = $4, error = $5 FROM (${RUNNING}) r
          WHERE i.operation_id = $1 AND i.ordinal = r.ordinal`,
        [fence.operationId, fence.attempt, fence.ordinals, status, JSON.stringify(error)],
      );
    },

    /** Runs an undo; no retry is admitted meanwhile. */
    undo: (fence: BatchFence, work: () => Promise<void>): Promise<void> =>
      whileUndoing(pool, fence.operationId, work),

    /** Those of a chunk that failed and whose tenant is not closed yet. */
    async toUndo(fence: BatchFence): Promise<DoomedTenant[]> {
      const { rows } = await pool.query<DoomedTenant>(
        // An undo may die half-way: from its beginning the ledger says of these things that they may be there, no more.
        `WITH doomed AS (
           SELECT t.id AS "tenantId", t.cell, t.generation::int AS generation, now()::text AS since
             FROM batch_item i JOIN tenant t ON t.id = i.tenant_id JOIN operation o ON o.id = i.operation_id
            WHERE i.operation_id = $1 AND o.generation = $2 AND o.status = 'running' AND i.ordinal = ANY ($3::int[])
              AND i.status IN ('failed', 'cancelled') AND t.state = 'provisioning'),
         doubted AS (UPDATE allocation a SET state = 'intended', updated_at = now() FROM doomed
                      WHERE a.tenant_id = doomed."tenantId" AND a.state IN ('created', 'verified'))
         SELECT * FROM doomed`,
        [fence.operationId, fence.attempt, fence.ordinals],
      );
      return rows;
    },

    /**
     * Records tenants as failed; when everything of them was removed, their allocations as released, also when the run has
     * given its undo up and closed meanwhile: what it saw is still so, as no retry was admitted.
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
        if (!released) return;
        await client.query(
          `UPDATE operation SET residue = coalesce((
            SELECT jsonb_agg(item) FROM jsonb_array_elements(residue) item
             WHERE EXISTS (SELECT FROM batch_item i JOIN allocation a ON a.tenant_id = i.tenant_id
                            WHERE i.operation_id = $1 AND a.state <> 'released' AND a.store = item ->> 'store'
                              AND a.kind = item ->> 'kind' AND a.name = item ->> 'name')), '[]')
          WHERE id = $1 AND status <> 'running'`,
          [fence.operationId],
        );
      }),

    /** Ends the operation: succeeded when every admitted tenant is active. Run again, it says the same. */
    close: (
      operationId: OperationId,
      attempt: number,
    ): Promise<{ status: OperationStatus; failed: number }> =>
      whileHolding(pool, operationId, async (client) => {
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
           SELECT coalesce(jsonb_agg(jsonb_build_object('store', a.store, 'kind', a.kind, 'name', a.name,
                    'reason', 'the undo could not remove it')), '[]') AS residue
             FROM batch_item i JOIN allocation a ON a.tenant_id = i.tenant_id
            WHERE i.operation_id = $1 AND i.status IN ('failed', 'cancelled') AND a.state <> 'released'),
         op AS (
           UPDATE operation SET status = $3, error = $4, residue = left_over.residue, finished_at = clock_timestamp()
             FROM left_over WHERE id = $1 AND generation = $2 AND status = 'running' RETURNING id, error)
         -- Nobody waits any more for an attempt that still runs. Where all are active, what it does is proved.
         UPDATE operation_step s SET finished_at = clock_timestamp(), last_error = coalesce(op.error, s.last_error),
                status = CASE WHEN op.error IS NULL THEN 'succeeded' ELSE 'failed' END
           FROM op WHERE s.operation_id = op.id AND (s.status = 'running' OR s.status = 'failed' AND op.error IS NULL)`,
          [operationId, attempt, status, error && JSON.stringify(toRecordedError(error))],
        );
        return { status, failed: failed + cancelled };
      }),
  };
}

async function admit(
  client: PoolClient,
  operationId: OperationId,
  attempt: number,
  blueprint: Blueprint,
): Promise<BatchAdmission> {
  const { rows } = await client.query<{
    body: { tenants: CreateTenantBody[] } | null;
    refusal: Refusal | null;
    status: OperationStatus | null;
    attempt: number | null;
  }>(
    `SELECT r.body, r.refusal, o.status, o.attempt FROM (SELECT $1::uuid AS id) asked
       LEFT JOIN request r ON r.operation_id = asked.id LEFT JOIN operation o ON o.id = asked.id
      WHERE r.operation_id IS NOT NULL OR o.id IS NOT NULL`,
    [operationId],
  );
  const found = rows[0];
  if (found === undefined) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  if (found.status === null) {
    if (found.refusal !== null) throw new Refused(found.refusal);
    // A twin of this call may be first, and is waited for here: its admission is then this one's.
    const begun = await client.query(
      `INSERT INTO operation (id, kind, status, generation) VALUES ($1, 'provision-batch', 'running', 1)
       ON CONFLICT DO NOTHING`,
      [operationId],
    );
    if (begun.rowCount === 0) return admit(client, operationId, attempt, blueprint);
    await admitNew(client, operationId, found.body?.tenants ?? [], blueprint);
  } else if (found.status !== 'running' || found.attempt !== attempt)
    await readmit(client, operationId, attempt);
  return admitted(client, operationId);
}

async function admitNew(
  client: PoolClient,
  operationId: OperationId,
  bodies: CreateTenantBody[],
  blueprint: Blueprint,
): Promise<void> {
  const items = bodies.map((body, ordinal): Item => ({ ordinal, tenantId: newTenantId(), body }));
  const { placed, refused } = await place(client, items);
  const taken = await insertTenants(client, placed);
  await giveBack(
    client,
    placed.filter(({ item }) => taken.has(item.tenantId)),
  );
  const refusals = new Map<TenantId, Refusal>([
    ...refused.map(({ item, refusal }): [TenantId, Refusal] => [item.tenantId, refusal]),
    ...placed
      .filter(({ item }) => taken.has(item.tenantId))
      .map(({ item }): [TenantId, Refusal] => [item.tenantId, { code: 'SLUG_TAKEN', params: {} }]),
  ]);
  const request = await client.query(
    `WITH step AS (INSERT INTO operation_step (operation_id, name, status, attempts, finished_at)
                   VALUES ($1, 'admit', 'succeeded', 1, clock_timestamp())),
     items AS (INSERT INTO batch_item (operation_id, ordinal, slug, tenant_id, status, error)
               SELECT $1, * FROM unnest($2::int[], $3::text[], $4::uuid[], $5::text[], $6::jsonb[])),
     kept AS (UPDATE request SET body = '{}' WHERE operation_id = $1 AND idempotency_key IS NOT NULL
              RETURNING operation_id),
     gone AS (DELETE FROM request WHERE operation_id = $1 AND idempotency_key IS NULL RETURNING operation_id)
     SELECT FROM kept UNION ALL SELECT FROM gone`,
    [
      operationId,
      items.map((item) => item.ordinal),
      items.map((item) => item.body.slug),
      items.map((item) => (refusals.has(item.tenantId) ? null : item.tenantId)),
      items.map((item) => (refusals.has(item.tenantId) ? 'refused' : 'running')),
      items.map((item) => refusalText(refusals.get(item.tenantId))),
    ],
  );
  // Withdrawn since it was read: its caller was told that it did not happen.
  if (request.rowCount === 0) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  await writeLedger(
    client,
    items.filter((item) => !refusals.has(item.tenantId)),
    blueprint,
  );
}

interface Placed {
  readonly item: Item;
  readonly cell: CellName;
}

/** A place for each, cell by cell; where a batch names no cell, the roomiest is filled first. */
async function place(
  client: PoolClient,
  items: readonly Item[],
): Promise<{ placed: Placed[]; refused: { item: Item; refusal: Refusal }[] }> {
  const placed: Placed[] = [];
  const refused: { item: Item; refusal: Refusal }[] = [];
  for (const wanted of new Set(items.map((item) => item.body.cell))) {
    const group = items.filter((item) => item.body.cell === wanted);
    const { places, refusal } = await placeMany(client, wanted, group.length);
    // A cell that is not there, not ready or does not isolate is the answer to the whole request.
    if (places.length === 0 && refusal !== undefined && refusal.code !== 'CELL_FULL')
      throw new Refused(refusal);
    const cells = places.flatMap(({ cell, count }) => Array.from({ length: count }, () => cell));
    for (const [position, item] of group.entries()) {
      const cell = cells[position];
      if (cell === undefined) refused.push({ item, refusal: refusal ?? { code: 'CELL_FULL', params: {} } });
      else placed.push({ item, cell });
    }
  }
  return { placed, refused };
}

/** @returns the ids of those whose slug is taken, by another tenant or earlier in the same batch */
async function insertTenants(client: PoolClient, placed: readonly Placed[]): Promise<Set<TenantId>> {
  const { rows } = await client.query<{ id: TenantId }>(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, generation)
     SELECT id, slug, name, plan, cell, 'provisioning', 1
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS t(id, slug, name, plan, cell)
     ON CONFLICT (slug) DO NOTHING RETURNING id`,
    [
      placed.map(({ item }) => item.tenantId),
      placed.map(({ item }) => item.body.slug),
      placed.map(({ item }) => item.body.name),
      placed.map(({ item }) => item.body.plan),
      placed.map(({ cell }) => cell),
    ],
  );
  const inserted = new Set(rows.map((row) => row.id));
  return new Set(placed.map(({ item }) => item.tenantId).filter((id) => !inserted.has(id)));
}

async function giveBack(client: PoolClient, unused: readonly Placed[]): Promise<void> {
  for (const cell of new Set(unused.map((place_) => place_.cell))) {
    const count = unused.filter((place_) => place_.cell === cell).length;
    await client.query('UPDATE cell SET tenants = tenants - $2 WHERE name = $1', [cell, count]);
  }
}

async function writeLedger(client: PoolClient, items: readonly Item[], blueprint: Blueprint): Promise<void> {
  const allocations = items.flatMap(({ tenantId }) =>
    blueprint.allocations(tenantId).map((allocation) => ({ tenantId, ...allocation })),
  );
  const credentials = items.flatMap(({ tenantId }) =>
    blueprint.credentials(tenantId).map((credential) => ({ tenantId, ...credential })),
  );
  await client.query(
    `WITH secret AS (INSERT INTO credential (tenant_id, store, version, sealed)
                     SELECT * FROM unnest($6::uuid[], $7::text[], $8::int[], $9::bytea[]))
     INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
     SELECT tenant_id, store, kind, name, 'intended', spec_hash, 1
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
         AS a(tenant_id, store, kind, name, spec_hash)`,
    [
      allocations.map((allocation) => allocation.tenantId),
      ...allocationColumns(allocations),
      credentials.map((credential) => credential.tenantId),
      credentials.map((credential) => credential.store),
      credentials.map((credential) => credential.version),
      credentials.map((credential) => credential.sealed),
    ],
  );
}

/** Takes up the failed and cancelled tenants of an ended batch. */
async function readmit(client: PoolClient, operationId: OperationId, attempt: number): Promise<void> {
  await afterUndoing(client, operationId);
  // Read under its lock: since it was looked at, attempts may have been admitted, withdrawn, and have come to their end.
  const { rows } = await client.query<{ status: OperationStatus; attempt: number }>(
    'SELECT status, attempt FROM operation WHERE id = $1 FOR UPDATE',
    [operationId],
  );
  const before = rows[0];
  if (before?.status === 'running' && before.attempt === attempt) return;
  if (before === undefined || !RETRYABLE_STATUSES.includes(before.status) || before.attempt !== attempt - 1)
    throw new Refused({ code: 'OPERATION_NOT_RETRYABLE', params: { status: before?.status ?? 'gone' } });
  await client.query(
    `WITH op AS (UPDATE operation SET status = 'running', attempt = $2::int, generation = $2::int, error = NULL, residue = '[]',
                        finished_at = NULL WHERE id = $1),
     items AS (UPDATE batch_item i SET status = 'running', error = NULL FROM tenant t
                WHERE i.operation_id = $1 AND i.status IN ('failed', 'cancelled')
                  AND t.id = i.tenant_id AND t.state = 'failed' RETURNING i.tenant_id),
     moved AS (UPDATE tenant t SET state = 'provisioning', generation = generation + 1, updated_at = clock_timestamp()
                 FROM items WHERE t.id = items.tenant_id RETURNING t.id, t.generation)
     UPDATE allocation a SET updated_at = clock_timestamp(),
            generation = CASE a.state WHEN 'released' THEN moved.generation ELSE a.generation END,
            state = CASE a.state WHEN 'released' THEN 'intended' ELSE a.state END
       FROM moved WHERE a.tenant_id = moved.id`,
    [operationId, attempt],
  );
}

async function admitted(client: PoolClient, operationId: OperationId): Promise<BatchAdmission> {
  const { rows } = await client.query<{ ordinal: number; status: string }>(
    'SELECT ordinal, status FROM batch_item WHERE operation_id = $1 ORDER BY ordinal',
    [operationId],
  );
  return {
    operationId,
    ordinals: rows.filter((row) => row.status === 'running').map((row) => row.ordinal),
    refused: rows.filter((row) => row.status === 'refused').length,
  };
}

const refusalText = (refusal: Refusal | undefined): string | null =>
  refusal === undefined
    ? null
    : JSON.stringify(toRecordedError(new TenantryError(refusal.code, refusal.params)));

async function withdrawFirst(client: PoolClient, operationId: OperationId): Promise<void> {
  // An admission that is still under way holds this row or will miss it: it never comes after us.
  await client.query('SELECT FROM request WHERE operation_id = $1 FOR UPDATE', [operationId]);
  const { rows } = await client.query<{ id: TenantId }>(
    `SELECT t.id FROM batch_item i JOIN tenant t ON t.id = i.tenant_id WHERE i.operation_id = $1 FOR UPDATE OF t`,
    [operationId],
  );
  await client.query('DELETE FROM batch_item WHERE operation_id = $1', [operationId]);
  await removeTenants(
    client,
    operationId,
    rows.map((row) => row.id),
  );
  await client.query('DELETE FROM request WHERE operation_id = $1', [operationId]);
}

async function withdrawRetry(client: PoolClient, operationId: OperationId, attempt: number): Promise<void> {
  await useUp(client, operationId, attempt);
  await client.query(
    `WITH op AS (UPDATE operation o SET status = 'cancelled', finished_at = clock_timestamp(), residue = coalesce((
                     SELECT jsonb_agg(jsonb_build_object('store', a.store, 'kind', a.kind, 'name', a.name,
                              'reason', 'the undo could not remove it'))
                       FROM batch_item i JOIN tenant t ON t.id = i.tenant_id JOIN allocation a ON a.tenant_id = t.id
                      WHERE i.operation_id = o.id AND i.status = 'running' AND a.generation < t.generation
                        AND a.state <> 'released'), '[]')
                  WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id),
     items AS (UPDATE batch_item i SET status = 'cancelled' FROM op
                WHERE i.operation_id = op.id AND i.status = 'running' RETURNING i.tenant_id),
     ledger AS (UPDATE allocation a SET state = 'released', updated_at = clock_timestamp()
                  FROM items JOIN tenant t ON t.id = items.tenant_id
                 WHERE a.tenant_id = t.id AND a.generation = t.generation AND a.state = 'intended')
     UPDATE tenant SET state = 'failed', updated_at = clock_timestamp() FROM items
      WHERE tenant.id = items.tenant_id AND state = 'provisioning'`,
    [operationId, attempt],
  );
}
