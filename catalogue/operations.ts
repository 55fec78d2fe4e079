/** Operations as a caller sees them: status, steps with their times and errors, results of a batch. */
import type { Pool } from 'pg';
import type { RecordedError } from '../domain/errors.js';
import type { OperationId, TenantId } from '../domain/ids.js';
import type { OperationKind, OperationStatus, Residue, StepStatus } from '../domain/operation.js';

export interface OperationRecord {
  readonly id: OperationId;
  readonly kind: OperationKind;
  readonly tenantId: TenantId | null;
  readonly status: OperationStatus;
  readonly attempt: number;
  readonly error: RecordedError | null;
  readonly residue: readonly Residue[];
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
}

export interface StepRecord {
  readonly name: string;
  readonly status: StepStatus;
  readonly attempts: number;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly lastError: RecordedError | null;
  readonly evidence: unknown;
}

export interface BatchItemRecord {
  readonly ordinal: number;
  readonly slug: string;
  readonly tenantId: TenantId | null;
  readonly status: 'running' | 'succeeded' | 'failed' | 'refused' | 'cancelled';
  readonly error: RecordedError | null;
}

const COLUMNS = `id, kind, tenant_id AS "tenantId", status, attempt, error, residue,
  started_at AS "startedAt", finished_at AS "finishedAt"`;

export function operationRepository(pool: Pool) {
  return {
    async find(id: OperationId): Promise<OperationRecord | undefined> {
      return (await pool.query<OperationRecord>(`SELECT ${COLUMNS} FROM operation WHERE id = $1`, [id]))
        .rows[0];
    },

    /** In the order in which they began. */
    async steps(id: OperationId): Promise<StepRecord[]> {
      const { rows } = await pool.query<StepRecord>(
        `SELECT name, status, attempts, started_at AS "startedAt", finished_at AS "finishedAt",
                last_error AS "lastError", evidence
           FROM operation_step WHERE operation_id = $1 ORDER BY started_at, name`,
        [id],
      );
      return rows;
    },

    async batchItems(id: OperationId): Promise<BatchItemRecord[]> {
      const { rows } = await pool.query<BatchItemRecord>(
        `SELECT ordinal, slug, tenant_id AS "tenantId", status, error
           FROM batch_item WHERE operation_id = $1 ORDER BY ordinal`,
        [id],
      );
      return rows;
    },

    /** The operation that runs on a tenant now. */
    async runningOn(tenant: TenantId): Promise<OperationRecord | undefined> {
      const { rows } = await pool.query<OperationRecord>(
        `SELECT ${COLUMNS} FROM operation WHERE tenant_id = $1 AND status = 'running'
          ORDER BY started_at DESC LIMIT 1`,
        [tenant],
      );
      return rows[0];
    },

    /** Running operations begun before `age` milliseconds ago, oldest first. */
    async runningSince(age: number, limit: number): Promise<OperationRecord[]> {
      const { rows } = await pool.query<OperationRecord>(
        `SELECT ${COLUMNS} FROM operation
          WHERE status = 'running' AND started_at <= clock_timestamp() - make_interval(secs => $1 / 1000.0)
          ORDER BY started_at LIMIT $2`,
        [age, limit],
      );
      return rows;
    },
  };
}
