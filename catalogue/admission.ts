/**
 * Admission: the one transaction in which a tenant begins to exist. It takes the slug, a place in a cell and a
 * generation, and writes down every resource that provisioning is going to make. Nothing has been made yet.
 */
import type { Pool, PoolClient } from 'pg';
import type { Admission, AdmissionResult, AdmitBy, Refusal } from '../domain/contracts.js';
import { ERRORS } from '../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { AllocationKind, OperationStatus, StoreName } from '../domain/operation.js';
import { mayBecome, type TenantState } from '../domain/tenant-state.js';
import type { CreateTenantBody } from '../domain/requests.js';
import { holdCells, placeInCell } from './cells.js';
import type { SealedCredential } from './credentials.js';
import { holdOperation, holdRequest } from './lock.js';
import { transaction } from './pool.js';
import { forgetRequest, useUp } from './requests.js';
import { restateResidue } from './residue.js';
import { keepUndosOut } from './undo-lock.js';

export interface PlannedAllocation {
  readonly store: StoreName;
  readonly kind: AllocationKind;
  readonly name: string;
  readonly specHash: string;
}

/** What provisioning is going to make for a tenant according to the manifest, and the passwords it will use. */
export interface Blueprint {
  allocations(tenant: TenantId): readonly PlannedAllocation[];
  credentials(tenant: TenantId): readonly SealedCredential[];
}

interface Candidate {
  readonly tenant_id: TenantId;
  readonly body: CreateTenantBody;
  readonly refusal: Refusal | null;
  readonly idempotency_key: Buffer | null;
  readonly status: OperationStatus | null;
  readonly attempt: number | null;
  readonly withdrawn_attempt: number | null;
  readonly state: TenantState | null;
  readonly generation: string | null;
  readonly cell: CellName | null;
  readonly plan: string | null;
}

/** Carries a refusal out of a transaction, which rolls back. */
export class Refused extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.code);
  }
}

export function admissionRepository(pool: Pool) {
  return {
    /**
     * Admits a new tenant (attempt 1) or a retry of a failed provisioning (attempt n + 1). Run again, it gives the
     * answer of the first time.
     * @throws TenantryError UNDO_RUNNING while an undo of an earlier attempt is at work.
     */
    async admitProvision(
      operationId: OperationId,
      attempt: number,
      blueprint: Blueprint,
      admitBy?: AdmitBy,
    ): Promise<AdmissionResult> {
      try {
        return {
          admitted: await transaction(pool, async (client) => {
            const candidate = await findCandidate(client, operationId);
            if (candidate.status === null)
              return admitNew(client, operationId, candidate, blueprint, admitBy);
            return readmit(client, operationId, attempt, candidate, blueprint, admitBy);
          }),
        };
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        // An attempt of this activity that was given up may have gone on and been admitted first. Then the slug that this
        // attempt found taken is its own, and so is that admission.
        const earlier = await findAdmission(pool, operationId, attempt);
        if (earlier !== undefined) return { admitted: earlier };
        // A retry's refusal is not the answer of the first request.
        if (attempt === 1) await rememberRefusal(pool, operationId, error.refusal);
        return { refused: error.refusal };
      }
    },

    /**
     * Takes back an admission whose caller was told that it did not happen, before anything was made in a store. Of a first
     * admission nothing is left, and the slug is free again; a retry leaves what it found. Whether this attempt was
     * admitted or not, it can never be admitted again. No other attempt is touched.
     */
    async withdraw(operationId: OperationId, attempt: number): Promise<void> {
      await transaction(pool, async (client) => {
        if (attempt > 1) return withdrawRetry(client, operationId, attempt);
        await holdRequest(client, operationId);
        const { rows } = await client.query<{ tenant_id: TenantId }>(
          `SELECT o.tenant_id FROM operation o JOIN tenant t ON t.id = o.tenant_id
            WHERE o.id = $1 AND o.attempt = 1 AND o.status = 'running' AND t.generation = o.generation FOR UPDATE`,
          [operationId],
        );
        const found = rows[0];
        if (found !== undefined) await removeTenants(client, operationId, [found.tenant_id]);
        await forgetRequest(client, operationId);
      });
    },
  };
}

/** Removes tenants of which nothing was ever made, together with their operation, and frees their places in the cells. */
export async function removeTenants(
  client: PoolClient,
  operationId: OperationId,
  tenants: readonly TenantId[],
): Promise<void> {
  const { rows } = await client.query<{ cell: CellName }>(
    'SELECT DISTINCT cell FROM tenant WHERE id = ANY ($1::uuid[])',
    [tenants],
  );
  await holdCells(
    client,
    rows.map((row) => row.cell),
  );
  await client.query('DELETE FROM operation WHERE id = $1', [operationId]);
  await client.query('DELETE FROM allocation WHERE tenant_id = ANY ($1::uuid[])', [tenants]);
  await client.query('DELETE FROM credential WHERE tenant_id = ANY ($1::uuid[])', [tenants]);
  await client.query(
    `WITH gone AS (DELETE FROM tenant WHERE id = ANY ($1::uuid[]) RETURNING cell)
     UPDATE cell SET tenants = tenants - counted.n FROM (SELECT cell, count(*)::int AS n FROM gone GROUP BY cell) counted
      WHERE cell.name = counted.cell`,
    [tenants],
  );
}

async function withdrawRetry(client: PoolClient, operationId: OperationId, attempt: number): Promise<void> {
  await useUp(client, operationId, attempt);
  await client.query(
    `WITH op AS (UPDATE operation SET status = 'cancelled', withdrawn_attempt = $2, finished_at = clock_timestamp()
                  WHERE id = $1 AND attempt = $2 AND status = 'running' RETURNING tenant_id, generation),
     -- What an earlier attempt left has an earlier generation.
     ledger AS (UPDATE allocation a SET state = 'released', updated_at = clock_timestamp() FROM op
                 WHERE a.tenant_id = op.tenant_id AND a.generation = op.generation AND a.state = 'intended')
     UPDATE tenant SET state = 'failed', updated_at = clock_timestamp() FROM op
      WHERE tenant.id = op.tenant_id AND state = 'provisioning'`,
    [operationId, attempt],
  );
  await restateResidue(client, operationId);
}

/** The admission of this attempt, while its operation runs. */
async function findAdmission(
  pool: Pool,
  operationId: OperationId,
  attempt: number,
): Promise<Admission | undefined> {
  const { rows } = await pool.query<Admission>(
    `SELECT t.id AS "tenantId", o.id AS "operationId", o.generation::int, t.cell, t.plan
       FROM operation o JOIN tenant t ON t.id = o.tenant_id AND t.generation = o.generation
      WHERE o.id = $1 AND o.attempt = $2 AND o.status = 'running'`,
    [operationId, attempt],
  );
  return rows[0];
}

async function findCandidate(client: PoolClient, operationId: OperationId): Promise<Candidate> {
  const { rows } = await client.query<Candidate>({
    name: 'admission-candidate',
    text: `SELECT coalesce(o.tenant_id, r.tenant_id) AS tenant_id, r.body, r.refusal, r.idempotency_key,
                  o.status, o.attempt, o.withdrawn_attempt, t.state, t.generation, t.cell, t.plan
             FROM (SELECT $1::uuid AS id) asked
             LEFT JOIN request r ON r.operation_id = asked.id
             LEFT JOIN operation o ON o.id = asked.id
             LEFT JOIN tenant t ON t.id = o.tenant_id
            WHERE r.operation_id IS NOT NULL OR o.id IS NOT NULL`,
    values: [operationId],
  });
  const candidate = rows[0];
  if (candidate === undefined) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  // Where the operation was admitted all the same, the refusal was the answer to a call that came late, and does not count.
  if (candidate.refusal !== null && candidate.status === null) throw new Refused(candidate.refusal);
  return candidate;
}

async function admitNew(
  client: PoolClient,
  operationId: OperationId,
  { tenant_id: tenantId, body }: Candidate,
  blueprint: Blueprint,
  admitBy: AdmitBy | undefined,
): Promise<Admission> {
  const placed = await placeInCell(client, body.cell, 1);
  if ('code' in placed) throw new Refused(placed);
  const tenant = await client.query({
    name: 'admission-tenant',
    text: `INSERT INTO tenant (id, slug, name, plan, cell, state, generation)
           VALUES ($1, $2, $3, $4, $5, 'provisioning', 1) ON CONFLICT (slug) DO NOTHING`,
    values: [tenantId, body.slug, body.name, body.plan, placed.cell],
  });
  // The slug is left out: a refusal is kept in the run's history, which holds no customer data.
  if (tenant.rowCount === 0) throw new Refused({ code: 'SLUG_TAKEN', params: {} });

  const allocations = blueprint.allocations(tenantId);
  const credentials = blueprint.credentials(tenantId);
  const request = await client.query({
    name: 'admission-ledger',
    text: `WITH op AS (INSERT INTO operation (id, kind, tenant_id, status, generation)
                       VALUES ($1, 'provision', $2, 'running', 1)),
           step AS (INSERT INTO operation_step (operation_id, name, status, attempts, finished_at)
                    VALUES ($1, 'admit', 'succeeded', 1, clock_timestamp())),
           ledger AS (INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
                      SELECT $2, store, kind, name, 'intended', spec_hash, 1
                        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS a(store, kind, name, spec_hash)),
           secret AS (INSERT INTO credential (tenant_id, store, version, sealed)
                      SELECT $2, * FROM unnest($7::text[], $8::int[], $9::bytea[])),
           kept AS (UPDATE request SET body = '{}' WHERE operation_id = $1 AND idempotency_key IS NOT NULL
                    RETURNING operation_id),
           gone AS (DELETE FROM request WHERE operation_id = $1 AND idempotency_key IS NULL RETURNING operation_id)
           SELECT FROM (SELECT FROM kept UNION ALL SELECT FROM gone) there WHERE ${inTime('$10')}`,
    values: [
      operationId,
      tenantId,
      ...allocationColumns(allocations),
      credentials.map((credential) => credential.store),
      credentials.map((credential) => credential.version),
      credentials.map((credential) => credential.sealed),
      admitBy ?? null,
    ],
  });
  // The request was withdrawn since it was read, or its time has passed: its caller was told that it did not happen.
  if (request.rowCount === 0) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  return { tenantId, operationId, generation: 1, cell: placed.cell, plan: body.plan };
}

/**
 * SQL: the ON CONFLICT clause for the allocations that a retry intends. What an undo could not remove is still there and keeps
 * its earlier generation. What the manifest has gained since is new.
 */
export const INTENDED_ANEW = `ON CONFLICT (tenant_id, store, kind, name) DO UPDATE
       SET spec_hash = excluded.spec_hash, updated_at = clock_timestamp(),
           generation = CASE allocation.state WHEN 'released' THEN excluded.generation ELSE allocation.generation END,
           state = CASE allocation.state WHEN 'released' THEN 'intended' ELSE allocation.state END`;

/** SQL: whether it is not later than `admitBy`. */
const inTime = (admitBy: string): string =>
  `coalesce(clock_timestamp() <= to_timestamp(${admitBy}::float8 / 1000), true)`;

/**
 * Checks the time limit, as the last thing that an admission does.
 * @throws Refused ADMISSION_TIMEOUT
 */
export async function refuseLate(client: PoolClient, admitBy: AdmitBy | undefined): Promise<void> {
  if (admitBy === undefined) return;
  const { rowCount } = await client.query(`SELECT WHERE ${inTime('$1')}`, [admitBy]);
  if (rowCount === 0) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
}

/** Admits a retry, or repeats the answer of an admission whose first answer was lost. */
async function readmit(
  client: PoolClient,
  operationId: OperationId,
  attempt: number,
  candidate: Candidate,
  blueprint: Blueprint,
  admitBy: AdmitBy | undefined,
): Promise<Admission> {
  const { tenant_id: tenantId, status, state, cell, plan } = candidate;
  if (status === null || state === null || cell === null || plan === null)
    throw new Error('an operation without tenant');
  const admission = { tenantId, operationId, cell, plan };
  if (status === 'running' && candidate.attempt === attempt)
    return { ...admission, generation: Number(candidate.generation) };
  if (candidate.withdrawn_attempt === attempt) throw new Refused({ code: 'ADMISSION_TIMEOUT', params: {} });
  if (status === 'running' || status === 'succeeded' || candidate.attempt !== attempt - 1)
    throw new Refused({ code: 'OPERATION_NOT_RETRYABLE', params: { status } });
  if (!mayBecome(state, 'provisioning'))
    throw new Refused({ code: 'ILLEGAL_STATE', params: { from: state, to: 'provisioning' } });

  // From here on a withdrawal comes before all of this or after it, and so does another call of this admission.
  await holdOperation(client, operationId);
  await keepUndosOut(client, operationId);
  const moved = await client.query<{ generation: string }>(
    `WITH op AS (SELECT FROM operation WHERE id = $4 AND attempt = $5 AND status = $6)
     UPDATE tenant SET state = 'provisioning', generation = generation + 1, updated_at = clock_timestamp() FROM op
      WHERE id = $1 AND state = $2 AND generation = $3 RETURNING generation`,
    [tenantId, state, candidate.generation, operationId, attempt - 1, status],
  );
  const generation = moved.rows[0]?.generation;
  if (generation === undefined) throw new Refused({ code: 'STALE_GENERATION', params: {} });
  await client.query(
    `WITH op AS (UPDATE operation SET status = 'running', attempt = $3, generation = $4, error = NULL,
                        residue = '[]', undoing = false, finished_at = NULL WHERE id = $1),
     undone AS (DELETE FROM operation_step WHERE operation_id = $1 AND name LIKE 'undo-%')
     INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
     SELECT $2, store, kind, name, 'intended', spec_hash, $4
       FROM unnest($5::text[], $6::text[], $7::text[], $8::text[]) AS a(store, kind, name, spec_hash)
     ${INTENDED_ANEW}`,
    [operationId, tenantId, attempt, generation, ...allocationColumns(blueprint.allocations(tenantId))],
  );
  await refuseLate(client, admitBy);
  return { ...admission, generation: Number(generation) };
}

/**
 * Stores a refusal as the first answer to its Idempotency-Key; without a key nothing is kept. Where another call of the same
 * admission was admitted, that is the answer, however the operation ended.
 */
export async function rememberRefusal(pool: Pool, operationId: OperationId, refusal: Refusal): Promise<void> {
  // A refusal because of our own state (5xx) is not kept: the caller is to try again, with the same key.
  const lasting = ERRORS[refusal.code].status < 500;
  await transaction(pool, async (client) => {
    await holdRequest(client, operationId);
    await client.query(
      `WITH unanswered AS (SELECT operation_id FROM request
                            WHERE operation_id = $1 AND NOT EXISTS (SELECT FROM operation WHERE id = $1)),
       kept AS (UPDATE request r SET refusal = $2, body = '{}' FROM unanswered u
                 WHERE r.operation_id = u.operation_id AND r.idempotency_key IS NOT NULL AND $3)
       DELETE FROM request r USING unanswered u
        WHERE r.operation_id = u.operation_id AND (r.idempotency_key IS NULL OR NOT $3)`,
      [operationId, JSON.stringify(refusal), lasting],
    );
  });
}

export function allocationColumns(
  allocations: readonly PlannedAllocation[],
): [string[], string[], string[], string[]] {
  return [
    allocations.map((allocation) => allocation.store),
    allocations.map((allocation) => allocation.kind),
    allocations.map((allocation) => allocation.name),
    allocations.map((allocation) => allocation.specHash),
  ];
}
