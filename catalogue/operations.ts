/** Operations as a caller sees them: status, steps with their times and errors, results of a batch. */
import type { Pool } from 'pg';
import type { RecordedError } from '../domain/errors.js';
import type { OperationId, TenantId } from '../domain/ids.js';
import type { OperationKind, OperationStatus, Residue, StepStatus } from '../domain/operation.js';
import { wasAdmitted } from './requests.js';

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

/** A step as JSON has it. */
type StoredStep = Omit<StepRecord, 'startedAt' | 'finishedAt'> & {
  readonly startedAt: string;
  readonly finishedAt: string | null;
};

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

    /** Whether an attempt at it was admitted, whatever has become of it. One that was taken back was not. */
    wasAdmitted: (id: OperationId, attempt: number): Promise<boolean> => wasAdmitted(pool, id, attempt),

    /** With its steps, in the order in which they began, as of one moment: one that is over has all of them. */
    async findWithSteps(id: OperationId): Promise<(OperationRecord & { steps: StepRecord[] }) | undefined> {
      const { rows } = await pool.query<OperationRecord & { steps: StoredStep[] }>({
        name: 'operation-with-steps',
        text: `SELECT ${COLUMNS}, coalesce((
                 SELECT jsonb_agg(jsonb_build_object('name', name, 'status', status, 'attempts', attempts,
                          'startedAt', started_at, 'finishedAt', finished_at, 'lastError', last_error,
                          'evidence', evidence) ORDER BY started_at, name)
                   FROM operation_step WHERE operation_id = operation.id), '[]') AS steps
                 FROM operation WHERE id = $1`,
        values: [id],
      });
      const found = rows[0];
      if (found === undefined) return undefined;
      const steps = found.steps.map(({ startedAt, finishedAt, ...step }) => ({
        ...step,
        startedAt: new Date(startedAt),
        finishedAt: finishedAt === null ? null : new Date(finishedAt),
      }));
      return { ...found, steps };
    },

    async batchItems(id: OperationId): Promise<BatchItemRecord[]> {
      const { rows } = await pool.query<BatchItemRecord>(
        `SELECT ordinal, slug, tenant_id AS "tenantId", status, error
           FROM batch_item WHERE operation_id = $1 ORDER BY ordinal`,
        [id],
      );
      return rows;
    },
  };
}
