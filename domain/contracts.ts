/**
 * The contracts of the workflows: names, inputs and outputs, so that the API starts what the worker runs without
 * importing it. Only ids and durations go in: names and other personal data stay in the catalogue, out of histories.
 */
import type { ErrorCode, ErrorParams, RecordedError } from './errors.js';
import type { CellName, OperationId, TenantId } from './ids.js';
import type { OperationStatus, Residue } from './operation.js';

export const PROVISION_TENANT = 'provisionTenant';
export const PROVISION_BATCH = 'provisionBatch';
/** The update that returns when the catalogue has admitted the operation, and fails when it was refused. */
export const ADMIT = 'admit';
/**
 * The same for a caller who waits for the end anyway: it returns when the run of one tenant is over, however it ended. It is an
 * update of its own rather than an argument of `admit`: an older worker refuses it instead of answering too early, and no history
 * holds an `admit` that a newer worker would replay differently.
 */
export const FINISH = 'finish';

/** Time limits of a run, in milliseconds. They are part of the input so that a test can shorten them. */
export interface Patience {
  /** How long a step is tried again while its store is away, before the operation is undone. */
  readonly step: number;
  /** How long an undo is tried again before what it could not remove is reported as residue. */
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
 * Until when an attempt may be admitted, in milliseconds since the epoch by the catalogue's clock. What is not admitted by then
 * never will be, so a caller for whom neither the catalogue nor Temporal answers any more can still be told so. An attempt that
 * was admitted stays admitted.
 */
export type AdmitBy = number;

/** What the run asks of the catalogue. */
export interface AdmissionAsked {
  readonly operationId: OperationId;
  readonly attempt: number;
  readonly admitBy?: AdmitBy | undefined;
}

export interface AdmitArgs {
  readonly operationId: OperationId;
  /** Which attempt is asked for; older callers leave it out. */
  readonly attempt?: number;
}

/** What the caller of `admit` gets once the catalogue has admitted the operation. */
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

export interface Lateness {
  /** True when the admission took so long that its caller may have given it up meanwhile. */
  readonly late?: boolean;
}

export interface OperationOutcome {
  readonly status: Extract<OperationStatus, 'succeeded'> | 'refused' | 'withdrawn';
}

/** A fencing token: which operation writes, and under which generation of the tenant. */
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
  /** `succeeded` when its activation had been committed after all. */
  readonly status: Exclude<OperationStatus, 'running'>;
  /** What is still there, according to the ledger. */
  readonly residue: readonly Residue[];
}

export interface StepResult {
  /** What the step could not make or remove. */
  readonly residue: readonly Residue[];
}

/** The activities that workflows call on one tenant. Each may run twice, twice at once, and again after a crash half-way. */
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
  /** Takes back an admission whose caller was told that it did not happen. Nothing has been made yet. */
  withdrawBatch(asked: { operationId: OperationId; attempt: number }): Promise<void>;
  batchPostgres(fence: BatchFence): Promise<ChunkResult>;
  batchMongo(fence: BatchFence): Promise<ChunkResult>;
  batchRedis(fence: BatchFence): Promise<ChunkResult>;
  /** Checks every tenant by what the stores' catalogues say, and a random `sample` of them by probes as the tenant too. */
  batchVerify(fence: BatchFence & { readonly sample: number }): Promise<ChunkResult>;
  /** Counts those that failed in any step, not only in this one: the answer of an earlier step may have been lost. */
  batchActivate(fence: BatchFence): Promise<ChunkResult>;
  /** Marks those that are still being provisioned as failed or cancelled. */
  batchFail(closing: BatchClosing): Promise<void>;
  /** Undoes those of the chunk that failed, in every store. */
  batchUndo(fence: BatchFence): Promise<void>;
  /** Gives up undoing: what is left stays in the ledger as residue. */
  batchAbandon(fence: BatchFence): Promise<void>;
  closeBatch(asked: { operationId: OperationId; attempt: number }): Promise<{
    readonly status: OperationStatus;
    readonly failed: number;
    /** Of the whole operation. Runs recorded before it was told have none. */
    readonly total?: number;
  }>;
}

export const ISOLATION_PROBE = 'isolationProbe';

export interface IsolationProbeInput {
  /** How many tenants of each cell are tried, chosen at random. */
  readonly sample: number;
  readonly patience?: Patience;
}

export interface IsolationProbeOutcome {
  readonly operationId: OperationId;
  /** How many times one tenant tried to reach another in every store. */
  readonly pairs: number;
}

/** The activities of the isolation probe: they try to read as another tenant, and expect to be refused. */
export interface IsolationProbeActivities {
  /** @returns the cells to try */
  beginIsolationProbe(asked: { operationId: OperationId }): Promise<CellName[]>;
  /** Fails with ISOLATION_BREACH as soon as one attempt succeeds. */
  probeCell(asked: {
    operationId: OperationId;
    cell: CellName;
    sample: number;
  }): Promise<{ readonly pairs: number }>;
  closeIsolationProbe(asked: { operationId: OperationId; error: RecordedError | null }): Promise<void>;
}

export type Activities = TenantActivities & BatchActivities & IsolationProbeActivities;
