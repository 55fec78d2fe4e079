/** Temporal schedules, as data. Every worker makes them or brings them up to date at its start: registrations.ts. */
import {
  type Client,
  ScheduleAlreadyRunning,
  type ScheduleOptions,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import { ISOLATION_PROBE, type IsolationProbeInput } from '../domain/contracts.js';
import type { OperationKind } from '../domain/operation.js';
import { OPERATION_KIND } from '../domain/search-attributes.js';

export interface ScheduleSettings {
  readonly taskQueue: string;
  /** Milliseconds between two isolation probes; 0: none. */
  readonly isolationProbeEvery: number;
  /** Tenants of each cell that a probe tries. */
  readonly isolationProbeSample: number;
}

/** A schedule, or the id of one that is not to be. */
type Entry = ScheduleOptions | { readonly scheduleId: string; readonly off: true };

function schedules(settings: ScheduleSettings): Entry[] {
  const { taskQueue, isolationProbeEvery: every, isolationProbeSample: sample } = settings;
  // Deployments that share a namespace differ in their task queue.
  const scheduleId = `${taskQueue}/isolation-probe`;
  if (every === 0) return [{ scheduleId, off: true }];
  return [
    {
      scheduleId,
      spec: { intervals: [{ every }] },
      action: {
        type: 'startWorkflow',
        workflowType: ISOLATION_PROBE,
        // The server adds the scheduled time.
        workflowId: scheduleId,
        taskQueue,
        args: [{ sample } satisfies IsolationProbeInput],
        typedSearchAttributes: [{ key: OPERATION_KIND, value: 'isolation-probe' satisfies OperationKind }],
      },
      // A probe that was missed is made up for by the next.
      policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    },
  ];
}

/** Safe to repeat and from several workers at once. A schedule that an operator paused stays paused. */
export async function ensureSchedules(client: Client, settings: ScheduleSettings): Promise<void> {
  for (const entry of schedules(settings)) {
    const handle = client.schedule.getHandle(entry.scheduleId);
    if ('off' in entry) {
      await handle.delete().catch((error: unknown) => {
        if (!(error instanceof Error) || error.name !== 'ScheduleNotFoundError') throw error;
      });
      continue;
    }
    if (await isMade(client, entry)) continue;
    const { spec, action, policies } = entry;
    await handle.update((present) => ({
      ...present,
      spec,
      action,
      policies: { ...present.policies, ...policies },
    }));
  }
}

/** Leaves those that are there as they are. @returns the ids of the others, which were made */
export async function makeMissingSchedules(client: Client, settings: ScheduleSettings): Promise<string[]> {
  const made: string[] = [];
  for (const entry of schedules(settings))
    if (!('off' in entry) && (await isMade(client, entry))) made.push(entry.scheduleId);
  return made;
}

/** False where it was there already. */
async function isMade(client: Client, entry: ScheduleOptions): Promise<boolean> {
  try {
    await client.schedule.create(entry);
    return true;
  } catch (error) {
    if (error instanceof ScheduleAlreadyRunning) return false;
    throw error;
  }
}
