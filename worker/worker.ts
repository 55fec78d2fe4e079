/** The Temporal worker: tuned slots, graceful shutdown, the bundle that was built ahead. */
import { NativeConnection, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Activities } from '../domain/contracts.js';
import { findBundle } from './bundle.js';
import { cancelledAttempts } from './cancelled-attempts.js';

export interface TenantryWorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly activities: Activities;
  /** Activities at once. */
  readonly activitySlots: number;
  /** Milliseconds that running activities get at a shutdown. */
  readonly shutdownGrace: number;
  readonly workflowBundle?: WorkerOptions['workflowBundle'];
  readonly interceptors?: WorkerOptions['interceptors'];
  /** Workflows and their local activities, and none of the others. */
  readonly localActivitiesOnly?: boolean;
  /** How long a run waits for the worker that has it in its cache before any other may go on with it. */
  readonly stickyTimeout?: WorkerOptions['stickyQueueScheduleToStartTimeout'];
}

export function createWorker(options: TenantryWorkerOptions): Promise<Worker> {
  const { connection, namespace, taskQueue, activities, activitySlots, shutdownGrace, interceptors } =
    options;
  return Worker.create({
    connection,
    namespace,
    taskQueue,
    activities,
    workflowBundle: options.workflowBundle ?? findBundle(),
    ...workerTuning(activitySlots),
    shutdownGraceTime: shutdownGrace,
    shutdownForceTime: shutdownGrace + 5_000,
    enableNonLocalActivities: options.localActivitiesOnly !== true,
    interceptors: {
      ...interceptors,
      // The outermost: it hears of a failure what Temporal would.
      activity: [cancelledAttempts, ...(interceptors?.activity ?? [])],
    },
    ...(options.stickyTimeout ? { stickyQueueScheduleToStartTimeout: options.stickyTimeout } : {}),
  });
}

/** @param activitySlots activities at once */
export function workerTuning(activitySlots: number) {
  return {
    // Store effects wait for a server most of the time; local ones (the catalogue) are bounded by its pool.
    maxConcurrentActivityTaskExecutions: activitySlots,
    maxConcurrentLocalActivityExecutions: 2 * activitySlots,
    maxConcurrentWorkflowTaskExecutions: 40,
    maxConcurrentActivityTaskPolls: 8,
    maxConcurrentWorkflowTaskPolls: 8,
    maxCachedWorkflows: 1_000,
    reuseV8Context: true,
  } satisfies Partial<WorkerOptions>;
}
