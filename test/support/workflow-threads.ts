/**
 * The threads in which workflows run outlive their worker, and the next one of the process with the same bundle takes them
 * over: a new one loads the SDK and the bundle, which is a third of a second of processor time. Runs leave nothing in them,
 * whichever worker they are of: they share frozen modules and have the rest for themselves (`worker/bundle.ts`).
 */
import type { Worker as Thread } from 'node:worker_threads';
import {
  ThreadedVMWorkflowCreator,
  type ThreadedVMWorkflowCreatorOptions as Wanted,
} from '@temporalio/worker/lib/workflow/threaded-vm';

const IDLE = Symbol.for('tenantry.test.workflow-threads');
const shared = globalThis as { [IDLE]?: Map<string, KeptThreads[]> };

/** From now on, in this process, whose test files share the SDK. */
export function keepWorkflowThreads(): void {
  if (shared[IDLE] !== undefined) return;
  const idle = (shared[IDLE] = new Map<string, KeptThreads[]>());
  // The SDK's own makes one of the class that it is called on.
  const start = ThreadedVMWorkflowCreator.create.bind(KeptThreads) as (
    wanted: Wanted,
  ) => Promise<KeptThreads>;
  ThreadedVMWorkflowCreator.create = async (wanted) => {
    const kind = kindOf(wanted);
    const alike = idle.get(kind) ?? [];
    idle.set(kind, alike);
    return alike.pop() ?? (await start(wanted)).keptIn(alike);
  };
}

class KeptThreads extends ThreadedVMWorkflowCreator {
  #idle: KeptThreads[] = [];

  keptIn(idle: KeptThreads[]): this {
    this.#idle = idle;
    // No reason for the process to stay.
    for (const thread of this.#threads) thread.unref();
    return this;
  }

  /** What a worker does with them when it ends. */
  override async destroy(): Promise<void> {
    const isEmpty = this.workerThreadClients.every((client) => client.getActiveWorkflowCount() === 0);
    const isAlive = this.#threads.every(({ threadId }) => threadId > 0);
    if (isEmpty && isAlive) this.#idle.push(this);
    else await super.destroy();
  }

  get #threads(): Thread[] {
    return this.workerThreadClients.map(
      (client) => (client as unknown as { workerThread: Thread }).workerThread,
    );
  }
}

/** All that they are started with. */
function kindOf({ workflowBundle, registeredActivityNames, ...wanted }: Wanted): string {
  const { threadPoolSize, isolateExecutionTimeoutMs, reuseV8Context, patchActivationCallback } = wanted;
  if (patchActivationCallback !== undefined) throw new Error('no test gave such a callback before');
  return JSON.stringify([
    workflowBundle.filename,
    [...registeredActivityNames].toSorted(),
    { threadPoolSize, isolateExecutionTimeoutMs, reuseV8Context },
  ]);
}
