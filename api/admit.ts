/**
 * Starts an operation: one Update-with-Start, which comes back when the catalogue has admitted or refused it. However
 * that call ends, the catalogue is the judge of what happened: a request that it no longer holds can never be
 * admitted, so a 503 means that nothing is there and nothing will be.
 */
import {
  isGrpcServiceError,
  ServiceError,
  WithStartWorkflowOperation,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import {
  ApplicationFailure,
  defineSearchAttributeKey,
  TypedSearchAttributes,
  type Workflow,
} from '@temporalio/common';
import type { Logger } from 'pino';
import {
  ADMIT,
  type Admission,
  type AdmitArgs,
  type ProvisionBatchInput,
  type ProvisionTenantInput,
} from '../domain/contracts.js';
import { TenantryError } from '../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { OperationKind } from '../domain/operation.js';
import { until, within } from './bounded.js';
import type { ApiDeps } from './deps.js';
import { refusalIn } from './refusal.js';

/** How an operation is started. Ids only: all of it can be read in Temporal's own page. */
export interface Start {
  readonly kind: OperationKind;
  readonly workflowType: string;
  readonly workflowId: string;
  readonly operationId: OperationId;
  readonly tenantId: TenantId | undefined;
  /** The workflow mends it where admission has it otherwise. That costs, so most runs are to begin with what is right. */
  readonly foreseen: { readonly cell?: CellName | undefined; readonly plan?: string | undefined };
  readonly attempt: number;
  readonly input: ProvisionTenantInput | ProvisionBatchInput;
  /** One line for the list of runs, and some for the page of one. */
  readonly summary: string;
  readonly details: string;
}

const TENANT_ID = defineSearchAttributeKey('TenantId', 'KEYWORD');
const OPERATION_KIND = defineSearchAttributeKey('OperationKind', 'KEYWORD');
const CELL = defineSearchAttributeKey('Cell', 'KEYWORD');
const PLAN = defineSearchAttributeKey('Plan', 'KEYWORD');

/** Milliseconds for withdrawing what was not admitted in time. */
const WITHDRAWAL = 2_000;
/** A run may close just as the update reaches it; the next try then starts another. */
const TRIES = 3;

/** How far an operation is known to have come. */
export type Reached = 'admitted' | 'ended';

/**
 * Returns when the operation is admitted; for a caller who waits for its end at its end, if that comes soon.
 * @param enough given by such a caller: aborted, the admission will do
 * @throws TenantryError the refusal; ADMISSION_TIMEOUT or ENGINE_UNAVAILABLE when it was withdrawn.
 */
export function admit(deps: ApiDeps, start: Start, log: Logger, enough?: AbortSignal): Promise<Reached> {
  return within(deps.config.TENANTRY_ADMISSION_TIMEOUT_MS, [], (late) =>
    admitBy(late, deps, start, log, enough),
  );
}

async function admitBy(
  late: AbortSignal,
  deps: ApiDeps,
  start: Start,
  log: Logger,
  enough: AbortSignal | undefined,
): Promise<Reached> {
  const time = deps.config.TENANTRY_ADMISSION_TIMEOUT_MS;
  let waiting = enough;
  for (let tries = 1; ; tries++) {
    try {
      if (waiting === undefined) {
        await until(deps.temporal, late, time, () => updateWithStart(deps, start));
        return 'admitted';
      }
      // Half of the time at most: where the end takes longer, the admission can still be asked for by itself.
      return await within(time / 2, [late, waiting], (signal) =>
        until(deps.temporal, signal, time, () => updateWithStart(deps, start, 'ended')),
      );
    } catch (error) {
      if (waiting !== undefined && !late.aborted && isAbort(error)) {
        waiting = undefined;
        log.debug({ operationId: start.operationId }, 'the end takes longer than the admission may');
        if (await isAdmitted(deps, start).catch(() => false)) return 'admitted';
        continue;
      }
      const refusal = refusalIn(error);
      if (refusal !== undefined) {
        // Asked twice at once, or under one Idempotency-Key, and the other's run is already over.
        if (refusal.code === 'OPERATION_NOT_RETRYABLE' && (await isAdmitted(deps, start))) return 'admitted';
        throw refusal;
      }
      if (missedTheRun(error) && tries < TRIES && !late.aborted) {
        if (await isAdmitted(deps, start)) return 'admitted';
        continue;
      }
      log.warn({ err: error, operationId: start.operationId }, 'the admission did not come back');
      const withdrawn = await withdraw(deps, start, late.aborted, log);
      if (withdrawn === 'admitted') return 'admitted';
      if (!late.aborted && !isOfTheEngine(error)) throw error;
      const code = late.aborted && withdrawn === 'cancelled' ? 'ADMISSION_TIMEOUT' : 'ENGINE_UNAVAILABLE';
      throw new TenantryError(code, {}, { cause: error });
    }
  }
}

async function updateWithStart({ temporal, config }: ApiDeps, start: Start, end?: 'ended'): Promise<Reached> {
  const { operationId, attempt } = start;
  const startWorkflowOperation = new WithStartWorkflowOperation(start.workflowType, {
    workflowId: start.workflowId,
    taskQueue: config.TENANTRY_TEMPORAL_TASK_QUEUE,
    args: [start.input],
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    staticSummary: start.summary,
    staticDetails: start.details,
    memo: { operationId, attempt },
    typedSearchAttributes: new TypedSearchAttributes([
      { key: OPERATION_KIND, value: start.kind },
      ...known(TENANT_ID, start.tenantId),
      ...known(CELL, start.foreseen.cell),
      ...known(PLAN, start.foreseen.plan),
    ]),
  });
  const id = attempt === 1 ? operationId : `${operationId}/${attempt}`;
  const { ended } = await temporal.workflow.executeUpdateWithStart<
    Workflow,
    Pick<Admission, 'ended'>,
    [AdmitArgs]
  >(ADMIT, {
    // Two that ask at once may wait for different things.
    updateId: end === undefined ? id : `${id}/${end}`,
    args: [{ operationId, attempt, ...(end === undefined ? {} : { until: end }) }],
    startWorkflowOperation,
  });
  return ended === true ? 'ended' : 'admitted';
}

const known = (key: typeof TENANT_ID, value: string | undefined) =>
  value === undefined ? [] : [{ key, value }];

/**
 * Takes the request back, or finds that it was admitted after all: the catalogue decides between the two. The run is
 * cancelled besides, so that it does not lie there until a worker comes; where Temporal was not even reached it is
 * left to find out for itself.
 */
async function withdraw(
  deps: ApiDeps,
  start: Start,
  reached: boolean,
  log: Logger,
): Promise<'admitted' | 'cancelled' | 'forgotten'> {
  const { operationId } = start;
  let forgotten = false;
  try {
    await deps.catalogue.requests.forget(operationId);
    if (await isAdmitted(deps, start)) return 'admitted';
    forgotten = true;
  } catch (error) {
    log.error({ err: error, operationId }, 'the request could not be taken back; its run will be cancelled');
  }
  if (forgotten && !reached) return 'forgotten';
  try {
    await deps.temporal.withDeadline(Date.now() + WITHDRAWAL, () => cancelRun(deps, start));
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'cancelled';
    log.warn({ err: error, operationId }, 'the run could not be cancelled');
    return 'forgotten';
  }
  return 'cancelled';
}

/** Cancels the run if this request began it: under the same id there may be another operation of the tenant. */
async function cancelRun({ temporal }: ApiDeps, { workflowId, operationId, attempt }: Start): Promise<void> {
  const { memo, runId } = await temporal.workflow.getHandle(workflowId).describe();
  if (memo?.['operationId'] === operationId && memo['attempt'] === attempt)
    await temporal.workflow.getHandle(workflowId, runId).cancel();
}

async function isAdmitted({ catalogue }: ApiDeps, { operationId, attempt }: Start): Promise<boolean> {
  const operation = await catalogue.operations.find(operationId);
  return operation !== undefined && operation.attempt >= attempt;
}

const missedTheRun = (error: unknown): boolean =>
  error instanceof WorkflowNotFoundError ||
  (error instanceof WorkflowUpdateFailedError &&
    error.cause instanceof ApplicationFailure &&
    error.cause.type === 'AcceptedUpdateCompletedWorkflow');

const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === 'AbortError';

const isOfTheEngine = (error: unknown): boolean =>
  error instanceof ServiceError ||
  error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
  error instanceof WorkflowNotFoundError ||
  isGrpcServiceError(error);
