/**
 * Starts an operation by one Update-with-Start. It returns when the catalogue has admitted or refused the request or, if
 * the caller waits for that, at the operation's end. If the call fails, the catalogue says what happened: a request that
 * it no longer holds, or whose time has passed, can never be admitted. So after a 503 nothing is there, and nothing will be.
 */
import { once } from 'node:events';
import {
  isGrpcServiceError,
  ServiceError,
  WithStartWorkflowOperation,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { ApplicationFailure, type Workflow } from '@temporalio/common';
import type { Logger } from 'pino';
import { ADMIT, type AdmitArgs, FINISH } from '../domain/contracts.js';
import { TenantryError } from '../domain/errors.js';
import { until, within } from './bounded.js';
import type { ApiDeps } from './deps.js';
import { refusalIn } from './refusal.js';
import { runOf } from './run.js';
import { askingFor, type Start } from './starts.js';
import { LONGEST_WITHDRAWAL, withdraw } from './withdraw.js';

/** A run may close just as the update reaches it; the next try then starts another. */
const TRIES = 4;

/** Milliseconds after which whoever asked for an admission has an answer, even if Temporal hangs. */
export const longestAdmission = ({
  TENANTRY_ADMISSION_TIMEOUT_MS: time,
}: Pick<ApiDeps['config'], 'TENANTRY_ADMISSION_TIMEOUT_MS'>): number => time + LONGEST_WITHDRAWAL;

/** How far an operation is known to have come. */
export type Reached = 'admitted' | 'ended';

/**
 * Returns when the operation is admitted or, for a caller who waits for its end, has ended soon enough.
 * @param enough given by a caller who waits for the end; once aborted, the admission will do
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
      ? // Half of the time at most, so that the admission can still be asked for if the end takes longer.
        within(time / 2, enough ? [late, enough] : [late], (signal) =>
          until(deps.temporal, signal, time, () => update(deps, start, how)),
        )
      : until(deps.temporal, late, time, () => update(deps, start, how));
  const isAdmitted = (): Promise<boolean> =>
    deps.catalogue.operations.wasAdmitted(start.operationId, start.attempt);
  let how: Ask = enough !== undefined && start.finishes ? 'finish' : 'start';
  for (let tries = 1; ; tries++) {
    try {
      await ask(how);
      return how === 'finish' ? 'ended' : 'admitted';
    } catch (error) {
      const refusal = refusalIn(error);
      if (refusal !== undefined) {
        // Two asked for the same attempt (with one Idempotency-Key, say), and the other's run is already over.
        if (refusal.code === 'OPERATION_NOT_RETRYABLE' && (await isAdmitted())) return 'admitted';
        throw refusal;
      }
      if (how === 'finish' && !late.aborted) {
        // The run itself says whether it was admitted, so the catalogue may be away.
        log.debug({ err: error, operationId: start.operationId }, 'the end did not come with the admission');
        how = 'run';
        continue;
      }
      if (missedTheRun(error) && tries < TRIES && !late.aborted) {
        how = 'start';
        const admitted = await isAdmitted().catch((reason: unknown) => {
          // The run knows too: `withdraw` asks it.
          log.debug(
            { err: reason, operationId: start.operationId },
            'the catalogue does not say what it knows',
          );
          return undefined;
        });
        if (admitted === true) return 'admitted';
        if (admitted === false) continue;
      }
      log.warn({ err: error, operationId: start.operationId }, 'the admission did not come back');
      const withdrawn = await withdraw(deps, start, late.aborted, log);
      if (withdrawn === 'admitted') return 'admitted';
      // Once the time has passed, the catalogue admits nothing more.
      if (withdrawn === 'unknown' && !late.aborted) await once(late, 'abort');
      if (!late.aborted && !isOfTheEngine(error)) throw error;
      const code = late.aborted && withdrawn === 'cancelled' ? 'ADMISSION_TIMEOUT' : 'ENGINE_UNAVAILABLE';
      throw new TenantryError(code, {}, { cause: error });
    }
  }
}

/** For the end of a run that is started if need be, for its admission, or for the admission of one that should be there. */
type Ask = 'finish' | 'start' | 'run';

async function update(deps: ApiDeps, start: Start, how: Ask): Promise<void> {
  const { temporal } = deps;
  const asking = askingFor(start);
  if (how === 'run') {
    await temporal.workflow.getHandle(start.workflowId).executeUpdate(ADMIT, asking);
    return;
  }
  const startWorkflowOperation = new WithStartWorkflowOperation(start.workflowType, runOf(start, deps));
  const name = how === 'finish' ? FINISH : ADMIT;
  // Of two who ask at once, one may wait for the admission and the other for the end.
  const updateId = how === 'finish' ? `${asking.updateId}/${FINISH}` : asking.updateId;
  await temporal.workflow.executeUpdateWithStart<Workflow, unknown, [AdmitArgs]>(name, {
    updateId,
    args: asking.args,
    startWorkflowOperation,
  });
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
