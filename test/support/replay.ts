/** Histories against the workflows as they are now. */
import type { temporal } from '@temporalio/proto';
import { Worker, type WorkflowBundleOption } from '@temporalio/worker';
import { globalHandlers } from '@temporalio/worker/lib/workflow/vm-shared';

export interface Replayed {
  readonly workflowId: string;
  readonly history: temporal.api.history.v1.IHistory;
}

/**
 * All by one worker, as to load the bundle takes longer than to replay most histories.
 * @returns what each that did not replay failed with, by its workflow id
 */
export async function replay(
  workflowBundle: WorkflowBundleOption,
  histories: readonly Replayed[],
): Promise<Record<string, Error>> {
  const failures: Record<string, Error> = {};
  let replayed = 0;
  try {
    for await (const result of Worker.runReplayHistories({ workflowBundle }, inTurn(histories))) {
      replayed += 1;
      if (result.error) failures[result.workflowId] = result.error;
    }
  } finally {
    // The SDK replays in this thread, and would leave a hook that compiles a function for each promise of the process.
    globalHandlers.uninstall();
  }
  if (replayed !== histories.length) throw new Error(`${replayed} of ${histories.length} were replayed`);
  return failures;
}

// oxlint-disable-next-line typescript/require-await -- the SDK takes no other kind
async function* inTurn(histories: readonly Replayed[]): AsyncGenerator<Replayed> {
  yield* histories;
}
