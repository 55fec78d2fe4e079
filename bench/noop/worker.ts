/** The no-op workflow's worker, in a process of its own, bundled and tuned as the real one is. */
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { readConfig } from '../../domain/config.js';
import { bundling } from '../../worker/bundle.js';
import { workerTuning } from '../../worker/worker.js';
import { noopActivities } from './activities.js';

async function main(address: string, taskQueue: string): Promise<void> {
  Runtime.install({ logger: new DefaultLogger('WARN') });
  const workflowBundle = await bundleWorkflowCode(bundling(require.resolve('./workflow')));
  const worker = await Worker.create({
    connection: await NativeConnection.connect({ address }),
    taskQueue,
    workflowBundle,
    activities: noopActivities,
    ...workerTuning(readConfig(['TENANTRY_WORKER_ACTIVITIES'], {}).TENANTRY_WORKER_ACTIVITIES),
  });
  const running = worker.run();
  process.send?.('ready');
  await running;
}

main(process.argv[2] ?? '', process.argv[3] ?? '').catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
