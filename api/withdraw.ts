/** Taking back what was not admitted in time. The catalogue is the judge of whether it was. */
import { WorkflowFailedError, type WorkflowHandle, WorkflowNotFoundError } from '@temporalio/client';
import type { Logger } from 'pino';
import { ADMIT, type OperationOutcome } from '../domain/contracts.js';
import type { ApiDeps } from './deps.js';
import { refusalIn } from './refusal.js';
import { askingFor, type Start } from './starts.js';

/** Milliseconds for each of Temporal's answers. */
const WITHDRAWAL = 2_000;
/** For all three, and for the catalogue's. */
export const LONGEST_WITHDRAWAL = 3 * WITHDRAWAL + 1_000;

/**
 * Takes the request back, or finds that it was admitted after all: the catalogue decides between the two. The run is
 * cancelled besides, so that it does not lie there until a worker comes; where Temporal was not even reached it is
 * left to find out for itself. Where the catalogue cannot be asked, the run is: it is not admitted any more once it has heard
 * of its cancellation. `unknown` where neither can: until its time has passed it may still be admitted.
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
 * Cancels the run if this request began it: under the same id there may be another operation of the tenant.
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

/** What the run says. One that does not say in time has the cancellation before it, and hears of that before it makes anything. */
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
    // What was not admitted completes, and says so.
    const outcome = (await inTime(() => run.result())) as OperationOutcome;
    return outcome.status === 'succeeded';
  } catch (error) {
    return error instanceof WorkflowFailedError;
  }
}
