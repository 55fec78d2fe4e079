/**
 * The contracts of the workflows: names, inputs and outputs, so that the API starts what the worker runs without
 * importing it. Only ids and durations go in: names and other personal data stay in the catalogue, out of histories.
 */
import type { ErrorCode, ErrorParams, RecordedError } from './errors.js';
import type { CellName, OperationId, TenantId } from './ids.js';
import type { OperationStatus, Residue } from './operation.js';

export const PROVISION_TENANT = 'provisionTenant';
export const PROVISION_BATCH = 'provisionBatch';
/** The update that returns when the catalogue has admitted the operation, or refused it. */
export const ADMIT = 'admit';
/**
 * The same for a caller who waits for the end anyway: it returns when the run of one tenant is over, however it ended. A name
 * of its own, and no argument of the other: a worker of before it was refuses it, and nothing of it is in a history that a newer
 * one would read otherwise.
 */
export const FINISH = 'finish';

/** Durations of a run; inputs, so that a test can shorten them. Milliseconds. */
export interface Patience {
  /** How long a step is tried again while its store is away, before the operation is undone. */
  readonly step: number;
  /** How long an undo is tried again before what it left is reported as residue. */
  readonly undo: number;
  /** The longest single attempt of a step. */
  readonly attempt: number;
}

export const DEFAULT_PATIENCE: Patience = { step: 3_600_000, undo: 3_600_000, attempt: 30_000 };

export interface ProvisionTenantInput {
  readonly tenantId: TenantId;
  readonly operationId: OperationId;
  /** 1, and one more for each retry: which of the operation's runs this is. */
  readonly attempt: number;
  readonly admitBy?: AdmitBy | undefined;
  readonly patience?: Patience;
}

/**
 * Until when an attempt may be admitted, in milliseconds of the epoch by the catalogue's clock. What is not admitted by then
 * never is, so that a caller who can ask nobody any more is told the truth all the same. One that was admitted stays so.
 */
export type AdmitBy = number;

/** What is asked of the catalogue by the run. */
export interface AdmissionAsked {
  readonly operationId: OperationId;
  readonly attempt: number;
  readonly admitBy?: AdmitBy | undefined;
}

export interface AdmitArgs {
  readonly operationId: OperationId;
  /** Which attempt is asked for; not said by callers of before it was. */
  readonly attempt?: number;
}

/** What the caller of `admit` gets once the catalogue's compare-and-set has passed. */
export interface Admission {
  readonly tenantId: TenantId;
  readonly operationId: OperationId;
  readonly generation: number;
  readonly cell: CellName;
  readonly plan: string;
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly params: ErrorParams;
}

export type AdmissionResult = ({ readonly admitted: Admission } & Lateness) | { readonly refused: Refusal };

/** Of an admission that took so long that its caller may have given it up meanwhile. */
export interface Lateness {
  readonly late?: boolean;
}

export interface OperationOutcome {
  readonly status: Extract<OperationStatus, 'succeeded'> | 'refused' | 'withdrawn';
}

/** Which operation writes, and under which generation of the tenant. */
export interface Fence {
  readonly operationId: OperationId;
  readonly tenantId: TenantId;
  readonly generation: number;
}

export interface Closing extends Fence {
  readonly status: Extract<OperationStatus, 'failed' | 'cancelled'>;
  readonly error: RecordedError;
}

/** How the operation ended. */
export interface Closed {
  /** `succeeded` when its activation had come through after all. */
  readonly status: Exclude<OperationStatus, 'running'>;
  /** What is still there, as the ledger knows it. */
  readonly residue: readonly Residue[];
}

/** What one run of a step could not bring to the state it leaves. */
export interface StepResult {
  readonly residue: readonly Residue[];
}

/** The activities that workflows call on one tenant. Each may run twice, at once, and after a crash half-way. */
export interface TenantActivities {
  admitProvision(asked: AdmissionAsked): Promise<AdmissionResult>;
  withdrawAdmission(asked: { operationId: OperationId; attempt: number }): Promise<void>;
  provisionPostgres(fence: Fence): Promise<StepResult>;
  provisionMongo(fence: Fence): Promise<StepResult>;
  provisionRedis(fence: Fence): Promise<StepResult>;
  verifyTenant(fence: Fence): Promise<StepResult>;
  activateTenant(fence: Fence): Promise<void>;
  undoPostgres(fence: Fence): Promise<StepResult>;
  undoMongo(fence: Fence): Promise<StepResult>;
  undoRedis(fence: Fence): Promise<StepResult>;
  closeOperation(closing: Closing): Promise<Closed>;
}

export interface ProvisionBatchInput {
  readonly operationId: OperationId;
  /** 1, and one more for each retry, which takes up what failed. */
  readonly attempt: number;
  readonly admitBy?: AdmitBy | undefined;
  readonly patience?: Patience;
  /** Tenants in one activity. */
  readonly chunkSize?: number;
}

export interface BatchAdmission {
  readonly operationId: OperationId;
  /** Positions in the request of the tenants that were admitted and are on their way. */
  readonly ordinals: readonly number[];
  readonly refused: number;
}

/** A chunk of a batch: which of its tenants, and under which of the operation's attempts. */
export interface BatchFence {
  readonly operationId: OperationId;
  readonly attempt: number;
  readonly ordinals: readonly number[];
}

export interface BatchClosing extends BatchFence {
  readonly status: 'failed' | 'cancelled';
  readonly error: RecordedError;
}

/** How many of a chunk did not come through a step; which and why is in the catalogue. */
export interface ChunkResult {
  readonly failed: number;
}

/** The activities that workflows call on a chunk of a batch: one step for up to some hundred tenants. */
export interface BatchActivities {
  admitBatch(
    asked: AdmissionAsked,
  ): Promise<({ readonly admitted: BatchAdmission } & Lateness) | { readonly refused: Refusal }>;
  /** Takes back an admission whose caller was told that it did not happen; nothing was made yet. */
  withdrawBatch(asked: { operationId: OperationId; attempt: number }): Promise<void>;
  batchPostgres(fence: BatchFence): Promise<ChunkResult>;
  batchMongo(fence: BatchFence): Promise<ChunkResult>;
  batchRedis(fence: BatchFence): Promise<ChunkResult>;
  /** Every tenant by what the stores' catalogues say; a random `sample` of them by probes as the tenant too. */
  batchVerify(fence: BatchFence & { readonly sample: number }): Promise<ChunkResult>;
  /** Says of all steps how many did not come through: the answer of one of them may have been lost. */
  batchActivate(fence: BatchFence): Promise<ChunkResult>;
  /** Marks what is still on its way as failed or cancelled. */
  batchFail(closing: BatchClosing): Promise<void>;
  /** Undoes those of the chunk that failed, in every store. */
  batchUndo(fence: BatchFence): Promise<void>;
  /** Gives up undoing: what is left stays in the ledger, as residue. */
  batchAbandon(fence: BatchFence): Promise<void>;
  closeBatch(asked: {
    operationId: OperationId;
    attempt: number;
  }): Promise<{ readonly status: OperationStatus; readonly failed: number }>;
}

export const ISOLATION_PROBE = 'isolationProbe';

export interface IsolationProbeInput {
  /** Tenants of each cell that are tried, chosen at random. */
  readonly sample: number;
  readonly patience?: Patience;
}

export interface IsolationProbeOutcome {
  readonly operationId: OperationId;
  /** How many times one tenant tried to reach another in every store. */
  readonly pairs: number;
}

/** The activities of the isolation probe: they read, and look for a refusal. */
export interface IsolationProbeActivities {
  /** @returns the cells to try */
  beginIsolationProbe(asked: { operationId: OperationId }): Promise<CellName[]>;
  /** Fails with ISOLATION_BREACH as soon as one got through. */
  probeCell(asked: {
    operationId: OperationId;
    cell: CellName;
    sample: number;
  }): Promise<{ readonly pairs: number }>;
  closeIsolationProbe(asked: { operationId: OperationId; error: RecordedError | null }): Promise<void>;
}

export type Activities = TenantActivities & BatchActivities & IsolationProbeActivities;

/** Search attributes on every run; keywords, without personal data. */
export const SEARCH_ATTRIBUTES = ['TenantId', 'OperationKind', 'Cell', 'Plan'] as const;
