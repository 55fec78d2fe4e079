/** The activities as workflows see them: a proxy for each class of effect, with its time-outs and the reason. */
import { ActivityCancellationType, proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
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
  proxyActivities<TenantActivities>({
    startToCloseTimeout: patience.attempt,
    scheduleToCloseTimeout: patience.step,
    retry: RETRY,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    summary,
  });

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
  proxyActivities<BatchActivities>({
    startToCloseTimeout: 10 * patience.attempt,
    heartbeatTimeout: patience.attempt,
    scheduleToCloseTimeout: patience.step,
    retry: RETRY,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    summary,
  });
