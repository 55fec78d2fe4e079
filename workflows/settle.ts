/** Comes back only when nothing is under way any more. */
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  isCancellation,
  patched,
  sleep,
} from '@temporalio/workflow';
import type { Lateness } from '../domain/contracts.js';

/**
 * Waits until every caller has its answer. Not cancellable: a cancellation that came too late to change what the run
 * did must not change what it says.
 */
export async function handlersFinished(): Promise<void> {
  if (!allHandlersFinished()) await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
}

/**
 * Runs effects side by side. The first failure cancels the others, which are waited for before it is thrown: an undo
 * that starts next must not meet an effect that is still going on.
 */
export async function allOrNone(effects: readonly (() => Promise<unknown>)[]): Promise<void> {
  const scope = new CancellationScope({ cancellable: true });
  let first: { error: unknown } | undefined;
  await scope.run(() =>
    Promise.all(
      effects.map((effect) =>
        effect().catch((error: unknown) => {
          first ??= { error };
          scope.cancel();
        }),
      ),
    ),
  );
  if (first !== undefined) throw first.error;
}

/**
 * An admission that is not waited for once the run is cancelled: what takes it back waits in the catalogue for one that is under
 * way, and lets none come later. So a cancellation always ends it, which Temporal's core (SDK 1.24) forgets to tell an attempt
 * that timed out.
 */
export async function admittedUnlessCancelled<T>(
  admission: Promise<T>,
  latenessOf: (answer: T) => Lateness,
): Promise<T> {
  let answer: T;
  try {
    answer = await Promise.race([admission, CancellationScope.current().cancelRequested]);
  } catch (error) {
    // A run from before it was so waited.
    if (!isCancellation(error) || patched('admission-not-waited-for')) throw error;
    answer = await admission;
  }
  // What has come in since is heard with the next workflow task, before anything is made.
  if (latenessOf(answer).late === true) await sleep(1);
  return answer;
}
