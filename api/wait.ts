/** `Prefer: wait=N` (RFC 7240): how long the caller would rather wait for the end of an operation. */
import type { Logger } from 'pino';
import { until } from './bounded.js';
import type { ApiDeps } from './deps.js';

/** Seconds. */
export const LONGEST_WAIT = 60;

/** Seconds to wait, capped; undefined when the header does not ask for it, or not in a way that can be understood. */
export function preferredWait(prefer: string | undefined): number | undefined {
  for (const preference of prefer?.split(',') ?? []) {
    const seconds = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(;|$)/i.exec(preference)?.[1];
    if (seconds !== undefined) return Math.min(Number(seconds), LONGEST_WAIT);
  }
  return undefined;
}

/** Returns when the run is over, or it has been waited for enough. Temporal wakes it: nothing is polled. */
export async function waitForRun(
  { temporal }: ApiDeps,
  workflowId: string,
  milliseconds: number,
  enough: AbortSignal,
  log: Logger,
): Promise<void> {
  try {
    await until(temporal, enough, milliseconds, () => temporal.workflow.getHandle(workflowId).result());
  } catch (error) {
    // A run that failed is over too, and a Temporal that went away only ends the wait.
    log.debug({ err: error, workflowId }, 'the wait ended without a result');
  }
}
