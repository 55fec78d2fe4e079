/** Comes back only when nothing is under way any more. */
import { allHandlersFinished, CancellationScope, condition } from '@temporalio/workflow';

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
