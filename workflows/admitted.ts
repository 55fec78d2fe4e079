/** Waits for an admission, which a cancellation of the run cuts short. */
import { CancellationScope, isCancellation, patched, sleep } from '@temporalio/workflow';
import type { Lateness } from '../domain/contracts.js';

/**
 * Waits for the admission until it answers or the run is cancelled, whichever comes first. After a cancellation the run takes the
 * admission back. The catalogue then waits for one that is under way and admits none later, so nothing is lost by not waiting
 * here. Waiting could take for ever: Temporal's core (SDK 1.24) does not tell a local activity of a cancellation after an attempt
 * of it has timed out.
 */
export async function admittedUnlessCancelled<T extends object>(
  admission: Promise<T & Lateness>,
): Promise<T> {
  let answer: T & Lateness;
  try {
    answer = await Promise.race([admission, CancellationScope.current().cancelRequested]);
  } catch (error) {
    // Runs recorded before this patch waited for the admission all the same.
    if (!isCancellation(error) || patched('admission-not-waited-for')) throw error;
    answer = await admission;
  }
  // The caller may have cancelled meanwhile. A timer ends this workflow task; the next one brings the cancellation, if there is one,
  // before anything is made.
  if ('admitted' in answer && answer.late === true) await sleep(1);
  return answer;
}
