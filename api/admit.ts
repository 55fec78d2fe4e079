/**
 * Starts an operation: one Update-with-Start, which comes back when the catalogue has admitted or refused it. However
 * that call ends, the catalogue is the judge of what happened: a request that it no longer holds can never be
 * admitted, so a 503 means that nothing is there and nothing will be.
 */
import {
  isGrpcServiceError,
  ServiceError,
  WithStartWorkflowOperation,
  WorkflowFailedError,
  type WorkflowHandle,
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
  type AdmitArgs,
  FINISH,
  type OperationOutcome,
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
  /** Whether its run can be asked for its end (FINISH) as it is started. */
  readonly finishes: boolean;
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
const TRIES = 4;

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
  const ask = (how: Ask): Promise<void> =>
    how === 'finish'
      ? // Half of the time at most: where the end takes longer, the admission can still be asked for by itself.
        within(time / 2, enough ? [late, enough] : [late], (signal) =>
          until(deps.temporal, signal, time, () => update(deps, start, how)),
        )
      : until(deps.temporal, late, time, () => update(deps, start, how));
  let how: Ask = enough !== undefined && start.finishes ? 'finish' : 'start';
  for (let tries = 1; ; tries++) {
    try {
      await ask(how);
      return how === 'finish' ? 'ended' : 'admitted';
    } catch (error) {
      const refusal = refusalIn(error);
      if (refusal !== undefined) {
        // Asked twice at once, or under one Idempotency-Key, and the other's run is already over.
        if (refusal.code === 'OPERATION_NOT_RETRYABLE' && (await isAdmitted(deps, start))) return 'admitted';
        throw refusal;
      }
      if (how === 'finish' && !late.aborted) {
        // Whatever kept its end, the run knows by itself whether it was admitted: the catalogue need not be there.
        log.debug({ err: error, operationId: start.operationId }, 'the end did not come with the admission');
        how = 'run';
        continue;
      }
      if (missedTheRun(error) && tries < TRIES && !late.aborted) {
        how = 'start';
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

/** The end of a run that is started, the admission by one that is, or the admission by one that should be there. */
type Ask = 'finish' | 'start' | 'run';

async function update({ temporal, config }: ApiDeps, start: Start, how: Ask): Promise<void> {
  const { operationId, attempt } = start;
  const id = attempt === 1 ? operationId : `${operationId}/${attempt}`;
  const args: [AdmitArgs] = [{ operationId, attempt }];
  if (how === 'run') {
    await temporal.workflow.getHandle(start.workflowId).executeUpdate(ADMIT, { updateId: id, args });
    return;
  }
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
  const name = how === 'finish' ? FINISH : ADMIT;
  // Two who ask at once may wait for different things.
  const updateId = how === 'finish' ? `${id}/${FINISH}` : id;
  await temporal.workflow.executeUpdateWithStart<Workflow, unknown, [AdmitArgs]>(name, {
    updateId,
    args,
    startWorkflowOperation,
  });
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
    const over = await deps.temporal.withDeadline(Date.now() + WITHDRAWAL, () => cancelRun(deps, start));
    return over && !forgotten && (await wasAdmitted(deps, over)) ? 'admitted' : 'cancelled';
  } catch (error) {
    log.warn({ err: error, operationId }, 'the run could not be cancelled');
    return 'forgotten';
  }
}

/**
 * Cancels the run if this request began it: under the same id there may be another operation of the tenant.
 * @returns the run, where it was over already
 */
async function cancelRun(
  { temporal }: ApiDeps,
  { workflowId, operationId, attempt }: Start,
): Promise<WorkflowHandle | undefined> {
  try {
    const { memo, runId, status } = await temporal.workflow.getHandle(workflowId).describe();
    if (memo?.['operationId'] !== operationId || memo['attempt'] !== attempt) return undefined;
    const run = temporal.workflow.getHandle(workflowId, runId);
    if (status.name !== 'RUNNING') return run;
    await run.cancel();
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
  return undefined;
}

/** Of a run that is over, where the catalogue cannot be asked: what was not admitted completes, and says so. */
async function wasAdmitted({ temporal }: ApiDeps, run: WorkflowHandle): Promise<boolean> {
  try {
    const outcome = (await temporal.withDeadline(Date.now() + WITHDRAWAL, () =>
      run.result(),
    )) as OperationOutcome;
    return outcome.status === 'succeeded';
  } catch (error) {
    if (error instanceof WorkflowFailedError) return true;
    throw error;
  }
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

const isOfTheEngine = (error: unknown): boolean =>
  error instanceof ServiceError ||
  error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
  error instanceof WorkflowNotFoundError ||
  isGrpcServiceError(error);
