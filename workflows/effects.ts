/** The activities as workflows see them: a proxy for each class of effect, with its time-outs and the reason. */
import {
  ActivityCancellationType,
  ActivityFailure,
  patched,
  proxyActivities,
  proxyLocalActivities,
  TimeoutFailure,
} from '@temporalio/workflow';
import type {
  Activities,
  BatchActivities,
  IsolationProbeActivities,
  Patience,
  TenantActivities,
} from '../domain/contracts.js';

const RETRY = { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '15s' } as const;

/**
 * Statements on the catalogue that take a millisecond. They are local activities, which cost no round trip through the server.
 * They are tried until the catalogue answers, however long it is away: without it nothing can be undone or reported either. (A
 * scheduleToCloseTimeout would not end them: SDK 1.24 does not check it between a local activity's attempts.)
 */
export const catalogueEffects = (patience: Patience) =>
  proxyLocalActivities<Activities>({
    startToCloseTimeout: patience.attempt,
    retry: RETRY,
    // The workflow decides for each of them whether it still waits after a cancellation.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });

/** Effects in one store. A cancelled one is waited for, so that no undo begins while it is at work. */
export const storeEffects = (patience: Patience, summary: string) =>
  untilBegun(
    proxyActivities<TenantActivities>({
      startToCloseTimeout: patience.attempt,
      scheduleToCloseTimeout: patience.step,
      retry: RETRY,
      cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
      summary,
    }),
  );

/** Undoing, with a time limit of its own: what it cannot remove by then is reported as residue. */
export const undoEffects = (patience: Patience, summary: string) =>
  storeEffects({ ...patience, step: patience.undo }, summary);

/** The isolation probe of one cell: a few dozen tenants, one after the other. Its heartbeats show that it is alive. */
export const probeEffects = (patience: Patience, cell: string) =>
  proxyActivities<IsolationProbeActivities>({
    startToCloseTimeout: patience.attempt,
    heartbeatTimeout: patience.attempt,
    scheduleToCloseTimeout: patience.step,
    retry: RETRY,
    summary: `from tenant to tenant in ${cell}`,
  });

/** Effects on a chunk of a batch. They take longer and send heartbeats: one that stops sending them is tried on another worker. */
export const chunkEffects = (patience: Patience, summary: string) =>
  untilBegun(
    proxyActivities<BatchActivities>({
      startToCloseTimeout: 10 * patience.attempt,
      heartbeatTimeout: patience.attempt,
      scheduleToCloseTimeout: patience.step,
      retry: RETRY,
      cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
      summary,
    }),
  );

type Effects = { readonly [name: string]: (...args: never[]) => Promise<unknown> };

/**
 * Schedules an activity again for as long as no worker has begun it. The time limit of a step is meant for a store that is away;
 * it must not run out because no worker is there or none has a free slot.
 */
function untilBegun<E extends Effects>(effects: E): E {
  return new Proxy(effects, {
    get:
      (target, name: string) =>
      async (...args: never[]): Promise<unknown> => {
        for (;;)
          try {
            return await target[name]?.(...args);
          } catch (error) {
            // Runs recorded before this patch ended with the time-out.
            if (!wasNotBegun(error) || !patched('asked-for-again-that-nobody-began')) throw error;
          }
      },
  });
}

/**
 * Whether no attempt of the activity has begun. The server uses the schedule-to-close time-out as the schedule-to-start one too,
 * and reports the latter where no worker took the task. If an earlier attempt had failed, its failure would be the cause.
 */
const wasNotBegun = (error: unknown): boolean =>
  error instanceof ActivityFailure &&
  error.cause instanceof TimeoutFailure &&
  error.cause.timeoutType === 'SCHEDULE_TO_START' &&
  error.cause.cause === undefined;
