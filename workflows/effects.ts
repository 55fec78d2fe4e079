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
 * Statements on the catalogue that take a millisecond: local, so that they cost no round trip through the server.
 * They wait for a catalogue that is away however long that is: without it nothing can be undone or told either. (A
 * scheduleToCloseTimeout would not end it: SDK 1.24 does not look at it between a local activity's attempts.)
 */
export const catalogueEffects = (patience: Patience) =>
  proxyLocalActivities<Activities>({
    startToCloseTimeout: patience.attempt,
    retry: RETRY,
    // Who cancels one decides whether it is waited for.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });

/** Effects in one store. A cancelled one is waited for: an undo must not meet it half-way. */
export const storeEffects = (patience: Patience, summary: string) =>
  onceSomebodyComes(
    proxyActivities<TenantActivities>({
      startToCloseTimeout: patience.attempt,
      scheduleToCloseTimeout: patience.step,
      retry: RETRY,
      cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
      summary,
    }),
  );

/** Undoing, with a patience of its own: what it cannot remove in that time is residue and is reported. */
export const undoEffects = (patience: Patience, summary: string) =>
  storeEffects({ ...patience, step: patience.undo }, summary);

/** Trying to cross in one cell: some dozen tenants one after the other, alive by heartbeats. */
export const probeEffects = (patience: Patience, cell: string) =>
  proxyActivities<IsolationProbeActivities>({
    startToCloseTimeout: patience.attempt,
    heartbeatTimeout: patience.attempt,
    scheduleToCloseTimeout: patience.step,
    retry: RETRY,
    summary: `from tenant to tenant in ${cell}`,
  });

/** Effects on a chunk of a batch. Longer, and alive by heartbeats: one that stops beating is tried elsewhere. */
export const chunkEffects = (patience: Patience, summary: string) =>
  onceSomebodyComes(
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
 * The patience is with a store. What nobody has even begun in that time, as no worker was there or none had a slot, is asked for
 * again, however long that is.
 */
function onceSomebodyComes<E extends Effects>(effects: E): E {
  return new Proxy(effects, {
    get:
      (target, name: string) =>
      async (...args: never[]): Promise<unknown> => {
        for (;;)
          try {
            return await target[name]?.(...args);
          } catch (error) {
            // A run from before it was so is over with that.
            if (!isOfNobody(error) || !patched('asked-for-again-that-nobody-began')) throw error;
          }
      },
  });
}

/**
 * The server takes the time to the end for the time to the beginning too, and tells of this one where nobody began. An attempt
 * that failed before would be its cause.
 */
const isOfNobody = (error: unknown): boolean =>
  error instanceof ActivityFailure &&
  error.cause instanceof TimeoutFailure &&
  error.cause.timeoutType === 'SCHEDULE_TO_START' &&
  error.cause.cause === undefined;
