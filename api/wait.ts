/** `Prefer: wait=N` (RFC 7240): how long the caller would rather wait for the end of an operation. */
import type { Logger } from 'pino';
import { until, within } from './bounded.js';
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

/**
 * Returns when the run is over, the time has passed, the client has gone or the process is closing; the catalogue
 * says which. Temporal wakes it: nothing is polled.
 */
export async function waitForRun(
  { temporal, closing }: ApiDeps,
  workflowId: string,
  seconds: number,
  gone: AbortSignal,
  log: Logger,
): Promise<void> {
  if (seconds === 0) return;
  const time = seconds * 1_000;
  try {
    await within(time, closing ? [gone, closing] : [gone], (enough) =>
      until(temporal, enough, time, () => temporal.workflow.getHandle(workflowId).result()),
    );
  } catch (error) {
    // A run that failed is over too, and a Temporal that went away only ends the wait.
    log.debug({ err: error, workflowId }, 'the wait ended without a result');
  }
}
