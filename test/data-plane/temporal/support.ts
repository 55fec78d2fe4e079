/** A product's client and worker with the tenancy interceptors, on a queue of their own, and who tries to forge. */
import { join } from 'node:path';
import { Client, Connection, type WorkflowClientInterceptor } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import {
  bundleWorkflowCode,
  DefaultLogger,
  type NativeConnection,
  Worker,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import type { Tenantry } from '../../../tenancy/index.js';
import { type TemporalTenancy, temporalTenancy } from '../../../tenancy/temporal/index.js';
import { connectWorkers } from '../../support/temporal-runtime.js';
import { createWorld, type World } from '../../support/world.js';
import { insertTenant, open, type Row } from '../context/support.js';
import { probeActivities } from './probe-activities.js';
import type * as workflows from './workflows.js';

export const namespace = 'default';

const dist = join(__dirname, '..', '..', '..', 'dist');
export const workflowsPath = join(dist, 'test', 'data-plane', 'temporal', 'workflows.js');

export interface Stage {
  readonly world: World;
  readonly tenantry: Tenantry;
  readonly tenancy: TemporalTenancy;
  readonly connection: Connection;
  readonly native: NativeConnection;
  readonly client: Client;
  readonly bundle: WorkflowBundleWithSourceMap;
  readonly taskQueue: string;
  readonly acme: Row;
  readonly other: Row;
  /** Runs a worker until the stage is closed. */
  run(worker: Worker): void;
  /** A workflow id that nobody has had. */
  fresh(): string;
  as<T>(row: Row, work: () => Promise<T>): Promise<T>;
  /** A client that sends these headers, whatever the tenant. */
  forging(headers: Record<string, string>): Client;
  /** Who the workflow `sayWho` runs for. */
  execute(by: Client, workflowId?: string): Promise<string>;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  const world = await createWorld();
  const tenantry = open(world);
  await tenantry.listening;
  const tenancy = temporalTenancy(tenantry, { namespace });
  const connection = await Connection.connect({ address: world.stack.temporalAddress });
  const native = await connectWorkers(world.stack.temporalAddress);
  const bundle = await bundleWorkflowCode({
    workflowsPath,
    workflowInterceptorModules: [join(dist, 'tenancy', 'temporal', 'workflow.js')],
    logger: new DefaultLogger('ERROR'),
  });
  const taskQueue = `${world.taskQueue}-product`;
  const stops: (() => Promise<unknown>)[] = [];
  const run = (worker: Worker): void => {
    const running = worker.run();
    stops.push(async () => {
      worker.shutdown();
      await running;
    });
  };
  run(
    await Worker.create({
      connection: native,
      namespace,
      taskQueue,
      workflowBundle: bundle,
      activities: { ...tenancy.activities, ...probeActivities },
      interceptors: { activity: tenancy.worker.activity, client: tenancy.worker.client },
      reuseV8Context: true,
    }),
  );
  const [acme, other] = [await insertTenant(world), await insertTenant(world)];
  let ids = 0;
  const fresh = (): string => `${taskQueue}/${++ids}`;
  return {
    world,
    tenantry,
    tenancy,
    connection,
    native,
    client: new Client({ connection, namespace, interceptors: tenancy.client }),
    bundle,
    taskQueue,
    acme,
    other,
    run,
    fresh,
    as: (row, work) => tenantry.runWithTenant(row.slug, work),
    forging: (headers) =>
      new Client({ connection, namespace, interceptors: { workflow: [putting(headers)] } }),
    execute: (by, workflowId = fresh()) =>
      by.workflow.execute<typeof workflows.sayWho>('sayWho', { taskQueue, workflowId }),
    async close() {
      for (const stop of stops) await stop();
      await native.close();
      await connection.close();
      await tenantry.close();
      await world.close();
    },
  };
}

function putting(headers: Record<string, string>): WorkflowClientInterceptor {
  const payloads = Object.fromEntries(
    Object.entries(headers).map(([name, text]) => [name, defaultPayloadConverter.toPayload(text)]),
  );
  const put = <I extends { headers: object }>(input: I): I => ({ ...input, headers: payloads });
  return {
    startWithDetails: (input, next) => next(put(input)),
    startUpdateWithStart: (input, next) =>
      next({ ...input, workflowStartHeaders: payloads, updateHeaders: payloads }),
    signal: (input, next) => next(put(input)),
    startUpdate: (input, next) => next(put(input)),
  };
}

/** The type of the failure that a workflow or update ended with. */
export async function failure(work: Promise<unknown>): Promise<unknown> {
  try {
    return { came: await work };
  } catch (error) {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause)
      if ('type' in cause && typeof cause.type === 'string') return cause.type;
    return error;
  }
}
