/** Takes back a request that was not admitted in time. The catalogue decides whether it was. */
import { WorkflowFailedError, type WorkflowHandle, WorkflowNotFoundError } from '@temporalio/client';
import type { Logger } from 'pino';
import { ADMIT, type OperationOutcome } from '../domain/contracts.js';
import type { ApiDeps } from './deps.js';
import { refusalIn } from './refusal.js';
import { askingFor, type Start } from './starts.js';

/** Milliseconds for each of Temporal's answers. */
const WITHDRAWAL = 2_000;
/** Three answers of Temporal's and one of the catalogue's. */
export const LONGEST_WITHDRAWAL = 3 * WITHDRAWAL + 1_000;

/**
 * Takes the request back, or finds that it was admitted after all. The run is cancelled too, so that it does not wait for a
 * worker. If the catalogue cannot be asked, the run is: once it has heard of its cancellation, it is not admitted any more.
 * @param reached false if Temporal was not reached: a run that is there all the same finds out by itself
 * @returns `unknown` if neither answers: until its time has passed, the request may still be admitted
 */
export async function withdraw(
  deps: ApiDeps,
  start: Start,
  reached: boolean,
  log: Logger,
): Promise<'admitted' | 'cancelled' | 'forgotten' | 'unknown'> {
  const { operationId, attempt } = start;
  let forgotten = false;
  try {
    if (await deps.catalogue.requests.forget(operationId, attempt)) return 'admitted';
    forgotten = true;
  } catch (error) {
    log.error({ err: error, operationId }, 'the request could not be taken back; its run will be cancelled');
  }
  if (forgotten && !reached) return 'forgotten';
  try {
    const run = await deps.temporal.withDeadline(Date.now() + WITHDRAWAL, () => cancelRun(deps, start));
    if (forgotten) return 'cancelled';
    if (run === undefined) return 'unknown';
    return (await wasAdmitted(deps, run, start, log)) ? 'admitted' : 'cancelled';
  } catch (error) {
    log.warn({ err: error, operationId }, 'the run could not be cancelled');
    return forgotten ? 'forgotten' : 'unknown';
  }
}

/**
 * Cancels the run if this request began it. Another operation of the tenant has the same workflow id.
 * @returns the run, which may have been over already
 */
async function cancelRun(
  { temporal }: ApiDeps,
  { workflowId, operationId, attempt }: Start,
): Promise<WorkflowHandle | undefined> {
  try {
    const { memo, runId, status } = await temporal.workflow.getHandle(workflowId).describe();
    if (memo?.['operationId'] !== operationId || memo['attempt'] !== attempt) return undefined;
    const run = temporal.workflow.getHandle(workflowId, runId);
    if (status.name === 'RUNNING') await run.cancel();
    return run;
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
  return undefined;
}

/** What the run says. If it does not say in time, it hears of its cancellation before it makes anything. */
async function wasAdmitted(
  { temporal }: ApiDeps,
  run: WorkflowHandle,
  start: Start,
  log: Logger,
): Promise<boolean> {
  const inTime = <T>(ask: () => Promise<T>): Promise<T> =>
    temporal.withDeadline(Date.now() + WITHDRAWAL, ask);
  try {
    await inTime(() => run.executeUpdate(ADMIT, askingFor(start)));
    return true;
  } catch (error) {
    if (refusalIn(error) !== undefined) return false;
    log.debug({ err: error }, 'a cancelled run does not tell whether it was admitted');
  }
  try {
    // A run that was not admitted completes, and its outcome says so.
    const outcome = (await inTime(() => run.result())) as OperationOutcome;
    return outcome.status === 'succeeded';
  } catch (error) {
    return error instanceof WorkflowFailedError;
  }
}
