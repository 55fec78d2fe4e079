/** The admission of a batch: all its tenants in one transaction. Each tenant that cannot be admitted gets a refusal of its own. */
import type { Pool, PoolClient } from 'pg';
import type { AdmitBy, BatchAdmission, Refusal } from '../domain/contracts.js';
import { TenantryError, toRecordedError } from '../domain/errors.js';
import { type CellName, newTenantId, type OperationId, type TenantId } from '../domain/ids.js';
import { type OperationStatus, RETRYABLE_STATUSES } from '../domain/operation.js';
import type { CreateTenantBody } from '../domain/requests.js';
import {
  allocationColumns,
  type Blueprint,
  INTENDED_ANEW,
  refuseLate,
  Refused,
  rememberRefusal,
  removeTenants,
} from './admission.js';
import { holdCells, placeMany } from './cells.js';
import { holdRequest } from './lock.js';
import { transaction } from './pool.js';
import { forgetRequest, useUp } from './requests.js';
import { restateResidue } from './residue.js';
import { keepUndosOut } from './undo-lock.js';

export type BatchAdmissionResult = { readonly admitted: BatchAdmission } | { readonly refused: Refusal };

interface Item {
  readonly ordinal: number;
  readonly tenantId: TenantId;
  readonly body: CreateTenantBody;
}

export function batchAdmissionRepository(pool: Pool) {
  return {
    /**
     * Run again, it gives the answer of the first time. Attempt n + 1 takes up what failed in attempt n.
     * @throws TenantryError UNDO_RUNNING while an undo of an earlier attempt is at work.
     */
    async admit(
      operationId: OperationId,
      attempt: number,
      blueprint: Blueprint,
      admitBy?: AdmitBy,
    ): Promise<BatchAdmissionResult> {
      try {
        return {
          admitted: await transaction(pool, (client) =>
            admit(client, operationId, attempt, blueprint, admitBy),
          ),
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
  };
}

async function admit(
  client: PoolClient,
  operationId: OperationId,
  attempt: number,
  blueprint: Blueprint,
  admitBy: AdmitBy | undefined,
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
    // Another call of this admission may be first. The INSERT waits for it, and its answer is then this one's too.
    const begun = await client.query(
      `INSERT INTO operation (id, kind, status, generation) VALUES ($1, 'provision-batch', 'running', 1)
       ON CONFLICT DO NOTHING`,
      [operationId],
    );
    if (begun.rowCount === 0) return admit(client, operationId, attempt, blueprint, admitBy);
    await admitNew(client, operationId, found.body?.tenants ?? [], blueprint);
    await refuseLate(client, admitBy);
  } else if (found.status !== 'running' || found.attempt !== attempt)
    await readmit(client, operationId, attempt, blueprint, admitBy);
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
  // The request was withdrawn since it was read: its caller was told that it did not happen.
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

/** Finds a place for each tenant, cell by cell. Tenants that name no cell go to the roomiest first. */
async function place(
  client: PoolClient,
  items: readonly Item[],
): Promise<{ placed: Placed[]; refused: { item: Item; refusal: Refusal }[] }> {
  const placed: Placed[] = [];
  const refused: { item: Item; refusal: Refusal }[] = [];
  const asked = new Set(items.map((item) => item.body.cell));
  await holdCells(client, [...asked]);
  for (const wanted of asked) {
    const group = items.filter((item) => item.body.cell === wanted);
    const { places, refusal } = await placeMany(client, wanted, group.length);
    // A cell that does not exist, is not ready or does not isolate refuses the whole request.
    if (places.length === 0 && refusal !== undefined && refusal.code !== 'CELL_FULL')
      throw new Refused({ ...refusal, params: { ...refusal.params, ordinal: group[0]?.ordinal ?? 0 } });
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
       FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
         AS t(id, slug, name, plan, cell, nth)
      -- In one order for all batches: two that ask for the same slugs the other way round would deadlock.
      ORDER BY slug, nth
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
async function readmit(
  client: PoolClient,
  operationId: OperationId,
  attempt: number,
  blueprint: Blueprint,
  admitBy: AdmitBy | undefined,
): Promise<void> {
  // Read again under the row's lock: other attempts may have been admitted, withdrawn or ended since the first look.
  const { rows } = await client.query<{
    status: OperationStatus;
    attempt: number;
    withdrawn_attempt: number;
  }>('SELECT status, attempt, withdrawn_attempt FROM operation WHERE id = $1 FOR UPDATE', [operationId]);
  const before = rows[0];
  if (before?.status === 'running' && before.attempt === attempt) return;
  if (before?.withdrawn_attempt === attempt) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  if (before === undefined || !RETRYABLE_STATUSES.includes(before.status) || before.attempt !== attempt - 1)
    throw new Refused({ code: 'OPERATION_NOT_RETRYABLE', params: { status: before?.status ?? 'gone' } });
  await keepUndosOut(client, operationId);
  const moved = await client.query<{ id: TenantId; generation: string }>(
    `WITH op AS (UPDATE operation SET status = 'running', attempt = $2::int, generation = $2::int, error = NULL, residue = '[]',
                        finished_at = NULL WHERE id = $1),
     items AS (UPDATE batch_item i SET status = 'running', error = NULL FROM tenant t
                WHERE i.operation_id = $1 AND i.status IN ('failed', 'cancelled')
                  -- 'provisioning': a run that was terminated may have left the tenant so.
                  AND t.id = i.tenant_id AND t.state IN ('failed', 'provisioning') RETURNING i.tenant_id)
     UPDATE tenant t SET state = 'provisioning', generation = generation + 1, updated_at = clock_timestamp()
       FROM items WHERE t.id = items.tenant_id RETURNING t.id, t.generation`,
    [operationId, attempt],
  );
  const allocations = moved.rows.flatMap(({ id, generation }) =>
    blueprint.allocations(id).map((allocation) => ({ tenantId: id, generation, ...allocation })),
  );
  await client.query(
    `INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
     SELECT tenant_id, store, kind, name, 'intended', spec_hash, generation
       FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
         AS a(tenant_id, generation, store, kind, name, spec_hash)
     ${INTENDED_ANEW}`,
    [
      allocations.map(({ tenantId }) => tenantId),
      allocations.map(({ generation }) => generation),
      ...allocationColumns(allocations),
    ],
  );
  await refuseLate(client, admitBy);
}

async function admitted(client: PoolClient, operationId: OperationId): Promise<BatchAdmission> {
  const { rows } = await client.query<{ ordinal: number; refused: boolean }>(
    // Where the first run was terminated and another one asks, some tenants may have failed and have yet to be undone.
    `SELECT i.ordinal, i.status = 'refused' AS refused FROM batch_item i LEFT JOIN tenant t ON t.id = i.tenant_id
      WHERE i.operation_id = $1
        AND (i.status IN ('running', 'refused') OR i.status IN ('failed', 'cancelled') AND t.state = 'provisioning')
      ORDER BY i.ordinal`,
    [operationId],
  );
  return {
    operationId,
    ordinals: rows.filter((row) => !row.refused).map((row) => row.ordinal),
    refused: rows.filter((row) => row.refused).length,
  };
}

const refusalText = (refusal: Refusal | undefined): string | null =>
  refusal === undefined
    ? null
    : JSON.stringify(toRecordedError(new TenantryError(refusal.code, refusal.params)));

async function withdrawFirst(client: PoolClient, operationId: OperationId): Promise<void> {
  await holdRequest(client, operationId);
  const { rows } = await client.query<{ tenants: TenantId[] }>(
    `SELECT ARRAY (SELECT tenant_id FROM batch_item WHERE operation_id = o.id AND tenant_id IS NOT NULL) AS tenants
       FROM operation o WHERE id = $1 AND attempt = 1 AND status = 'running' FOR UPDATE`,
    [operationId],
  );
  const found = rows[0];
  if (found !== undefined) {
    await client.query('DELETE FROM batch_item WHERE operation_id = $1', [operationId]);
    await removeTenants(client, operationId, found.tenants);
  }
  await forgetRequest(client, operationId);
}

async function withdrawRetry(client: PoolClient, operationId: OperationId, attempt: number): Promise<void> {
  await useUp(client, operationId, attempt);
  await client.query(
    `WITH op AS (UPDATE operation SET status = 'cancelled', withdrawn_attempt = $2, finished_at = clock_timestamp()
                  WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING id),
     items AS (UPDATE batch_item i SET status = 'cancelled' FROM op
                WHERE i.operation_id = op.id AND i.status = 'running' RETURNING i.tenant_id),
     -- What an earlier attempt left has an earlier generation.
     ledger AS (UPDATE allocation a SET state = 'released', updated_at = clock_timestamp()
                  FROM items JOIN tenant t ON t.id = items.tenant_id
                 WHERE a.tenant_id = t.id AND a.generation = t.generation AND a.state = 'intended')
     UPDATE tenant SET state = 'failed', updated_at = clock_timestamp() FROM items
      WHERE tenant.id = items.tenant_id AND state = 'provisioning'`,
    [operationId, attempt],
  );
  await restateResidue(client, operationId);
}
