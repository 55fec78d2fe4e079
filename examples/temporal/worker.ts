/** The product's worker: its own activities and workflows, with the data plane's interceptors around them. */
import { type NativeConnection, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Tenantry } from '../../tenancy/index.js';
import { temporalTenancy } from '../../tenancy/temporal/index.js'; // In a product: from 'tenantry/temporal'.
import { activities } from './activities.js';

export function createDigestWorker(
  tenantry: Tenantry,
  where: {
    connection: NativeConnection;
    namespace: string;
    taskQueue: string;
    /** Built ahead, with `workflowModules` of the tenancy; else it is built when the worker starts. */
    workflowBundle?: NonNullable<WorkerOptions['workflowBundle']>;
  },
): Promise<Worker> {
  const tenancy = temporalTenancy(tenantry, { namespace: where.namespace });
  return Worker.create({
    ...where,
    ...(where.workflowBundle ? {} : { workflowsPath: require.resolve('./workflows') }),
    activities: { ...tenancy.activities, ...activities },
    interceptors: where.workflowBundle ? { ...tenancy.worker, workflowModules: [] } : tenancy.worker,
  });
}
