/**
 * Requests are stored before anything is started: workflow histories carry only ids, and a request that is sent again
 * with its Idempotency-Key finds the ids of the first.
 */
import { createHash } from 'node:crypto';
import type { Pool, PoolClient } from 'pg';
import { canonicalJson } from '../domain/canonical-json.js';
import { TenantryError } from '../domain/errors.js';
import {
  type CellName,
  newOperationId,
  newTenantId,
  type OperationId,
  type TenantId,
} from '../domain/ids.js';
import type { OperationKind } from '../domain/operation.js';
import { roomiest } from './cells.js';
import { holdOperation, holdRequest } from './lock.js';
import { transaction } from './pool.js';
import type { AdmitBy, Refusal } from '../domain/contracts.js';

export interface Intake {
  readonly kind: OperationKind;
  /** The validated body; its canonical form is what two requests are compared by. */
  readonly body: unknown;
  readonly idempotencyKey?: string | undefined;
  /**
   * Given for an early refusal where a tenant has the slug. Only without a key: with one, the first answer counts. Admission
   * refuses a taken slug in either case.
   */
  readonly slug?: string | undefined;
  /** The cell that is wanted for one tenant, if any. */
  readonly cell?: string | undefined;
  /** How long from now the request may be admitted, in milliseconds. */
  readonly admitWithin?: number;
}

export interface IntakeResult {
  readonly operationId: OperationId;
  /** Undefined for a batch, whose tenants get their ids when they are admitted. */
  readonly tenantId: TenantId | undefined;
  /** The cell that admission will probably take, for a new request for one tenant. */
  readonly foreseen: CellName | undefined;
  /** Given where `admitWithin` was. */
  readonly admitBy: AdmitBy | undefined;
  /** The first answer, where this request was answered before. */
  readonly answered: { readonly admitted: true } | { readonly refused: Refusal } | undefined;
}

interface RequestRow {
  readonly operation_id: OperationId;
  readonly tenant_id: TenantId | null;
  readonly body_hash: Buffer;
  readonly refusal: Refusal | null;
  readonly admitted: boolean;
  readonly admitBy: AdmitBy | null;
}

/** SQL: so many milliseconds from now. */
const fromNow = (milliseconds: string): string =>
  `extract(epoch FROM clock_timestamp())::float8 * 1000 + ${milliseconds}::float8`;

export function requestRepository(pool: Pool) {
  return {
    /** @throws TenantryError SLUG_TAKEN; IDEMPOTENCY_KEY_REUSED when the key came with another body before. */
    async intake({ kind, body, idempotencyKey, slug, cell, admitWithin }: Intake): Promise<IntakeResult> {
      const operationId = newOperationId();
      const tenantId = kind === 'provision' ? newTenantId() : undefined;
      const bodyHash = sha256(canonicalJson({ kind, body }));
      const key = idempotencyKey === undefined ? null : sha256(idempotencyKey);
      const inserted = await pool.query<{ foreseen: CellName | null; admitBy: AdmitBy | null }>({
        name: 'request-intake',
        text: `INSERT INTO request (operation_id, kind, tenant_id, body, idempotency_key, body_hash)
               SELECT $1::uuid, $2::text, $3::uuid, $4::jsonb, $5::bytea, $6::bytea
                WHERE $5 IS NOT NULL OR NOT EXISTS (SELECT FROM tenant WHERE slug = $7::text)
               ON CONFLICT (idempotency_key) DO NOTHING
               RETURNING CASE WHEN tenant_id IS NOT NULL THEN (${roomiest('$8', '1')}) END AS foreseen,
                         ${fromNow('$9')} AS "admitBy"`,
        values: [
          operationId,
          kind,
          tenantId ?? null,
          JSON.stringify(body),
          key,
          bodyHash,
          slug ?? null,
          cell ?? null,
          admitWithin ?? null,
        ],
      });
      const [made] = inserted.rows;
      if (made !== undefined)
        return {
          operationId,
          tenantId,
          foreseen: made.foreseen ?? undefined,
          admitBy: made.admitBy ?? undefined,
          answered: undefined,
        };
      if (key === null) throw new TenantryError('SLUG_TAKEN', {}, { field: 'slug' });
      return earlier(pool, key, bodyHash, admitWithin);
    },

    /**
     * The time limit of an attempt that is asked for now.
     * @param within milliseconds
     */
    async admitBy(within: number): Promise<AdmitBy> {
      const { rows } = await pool.query<{ admitBy: AdmitBy }>(`SELECT ${fromNow('$1')} AS "admitBy"`, [
        within,
      ]);
      if (rows[0] === undefined) throw new TypeError('a statement without a row');
      return rows[0].admitBy;
    },

    /**
     * Takes back a first request (attempt 1) or a retry, unless it was admitted. After that it can never be admitted, whoever
     * still asks for it, so its caller can be told that it did not happen.
     * @returns whether it was admitted
     */
    forget(operationId: OperationId, attempt: number): Promise<boolean> {
      return transaction(pool, async (client) => {
        // The lock and the reading are two statements: the second has a newer snapshot, and sees what the lock's holder made.
        if (attempt > 1) await useUp(client, operationId, attempt);
        else {
          await holdRequest(client, operationId);
          await forgetRequest(client, operationId);
        }
        return wasAdmitted(client, operationId, attempt);
      });
    },

    /**
     * Takes back requests that have been neither admitted nor refused for `age` milliseconds.
     * @returns how many
     */
    async forgetAbandoned(age: number): Promise<number> {
      const { rowCount } = await pool.query(
        // Judged by the row's own body, which an admission empties: the statement's snapshot may be too old to show the operation
        // of an admission that it waited for, but it sees the row's newest version.
        `DELETE FROM request
          WHERE body <> '{}' AND created_at < clock_timestamp() - make_interval(secs => $1 / 1000.0)`,
        [age],
      );
      return rowCount ?? 0;
    },
  };
}

/** Deletes the request unless it was admitted. The caller holds its row. */
export async function forgetRequest(client: PoolClient, operationId: OperationId): Promise<void> {
  await client.query(
    'DELETE FROM request WHERE operation_id = $1 AND NOT EXISTS (SELECT FROM operation WHERE id = $1)',
    [operationId],
  );
}

/** Uses up the number of a retry that is withdrawn before it was admitted, so that its admission is refused if it comes later. */
export async function useUp(client: PoolClient, operationId: OperationId, attempt: number): Promise<void> {
  // An admission that is under way holds this row and is waited for: the next statement sees what it did.
  await holdOperation(client, operationId);
  await client.query(
    `UPDATE operation SET attempt = $2, withdrawn_attempt = $2
      WHERE id = $1 AND attempt = $2 - 1 AND status IN ('failed', 'cancelled')`,
    [operationId, attempt],
  );
}

export async function wasAdmitted(
  client: Pool | PoolClient,
  operationId: OperationId,
  attempt: number,
): Promise<boolean> {
  const { rowCount } = await client.query(
    'SELECT FROM operation WHERE id = $1 AND attempt >= $2 AND withdrawn_attempt <> $2',
    [operationId, attempt],
  );
  return rowCount === 1;
}

async function earlier(
  pool: Pool,
  key: Buffer,
  bodyHash: Buffer,
  admitWithin: number | undefined,
): Promise<IntakeResult> {
  const { rows } = await pool.query<RequestRow>(
    `SELECT r.operation_id, r.tenant_id, r.body_hash, r.refusal, o.id IS NOT NULL AS admitted,
            ${fromNow('$2')} AS "admitBy"
       FROM request r LEFT JOIN operation o ON o.id = r.operation_id WHERE r.idempotency_key = $1`,
    [key, admitWithin ?? null],
  );
  const row = rows[0];
  // The request was withdrawn between the two statements: the caller may send it again.
  if (row === undefined) throw new TenantryError('ADMISSION_TIMEOUT');
  if (!row.body_hash.equals(bodyHash))
    throw new TenantryError('IDEMPOTENCY_KEY_REUSED', {}, { field: 'Idempotency-Key' });
  const answered = row.admitted
    ? { admitted: true as const }
    : row.refusal
      ? { refused: row.refusal }
      : undefined;
  return {
    operationId: row.operation_id,
    tenantId: row.tenant_id ?? undefined,
    foreseen: undefined,
    admitBy: row.admitBy ?? undefined,
    answered,
  };
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
