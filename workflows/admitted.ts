/** Waiting for an admission whose caller may give it up. */
import { CancellationScope, isCancellation, patched, sleep } from '@temporalio/workflow';
import type { Lateness } from '../domain/contracts.js';

/**
 * An admission that is not waited for once the run is cancelled: what takes it back waits in the catalogue for one that is under
 * way, and lets none come later. So a cancellation always ends it, which Temporal's core (SDK 1.24) forgets to tell an attempt
 * that timed out.
 */
export async function admittedUnlessCancelled<T extends object>(
  admission: Promise<T & Lateness>,
): Promise<T> {
  let answer: T & Lateness;
  try {
    answer = await Promise.race([admission, CancellationScope.current().cancelRequested]);
  } catch (error) {
    // A run from before it was so waited.
    if (!isCancellation(error) || patched('admission-not-waited-for')) throw error;
    answer = await admission;
  }
  // What has come in since is heard with the next workflow task, before anything is made.
  if ('admitted' in answer && answer.late === true) await sleep(1);
  return answer;
}
