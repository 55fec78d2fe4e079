/** What a supervisor, a load balancer and a scraper ask for; none of it needs a token, so none of it tells a secret. */
import { temporal as proto } from '@temporalio/proto';
import { z } from 'zod';
import type { Registry } from 'prom-client';
import type { Cell } from '../../catalogue/cells.js';
import type { ApiDeps } from '../deps.js';
import { json } from '../documents.js';
import { route, type Route } from '../route.js';

/** Milliseconds that a dependency has to answer in. */
const PATIENCE = 1_000;

const cellReadiness = z
  .object({
    name: z.string(),
    prepared: z.boolean(),
    takesTenants: z.boolean(),
    mongo: z.object({
      enforcement: z.enum(['server', 'guard']),
      weaker: z
        .boolean()
        .meta({ description: 'Isolation rests on the guard where the server did not refuse.' }),
      trial: z
        .object({
          triedAt: z.string(),
          server: z.string(),
          refused: z.array(z.string()),
          notRefused: z.array(z.string()),
        })
        .nullable()
        .meta({ description: 'What this server was seen to refuse when it was tried; null until then.' }),
    }),
  })
  .meta({ id: 'CellReadiness' });

const readiness = z
  .object({
    ready: z.boolean(),
    catalogue: z.object({ ok: z.boolean() }),
    temporal: z.object({
      ok: z.boolean(),
      workers: z.int().optional().meta({ description: 'Workers that polled the task queue lately.' }),
    }),
    cells: z.array(cellReadiness),
  })
  .meta({ id: 'Readiness' });

type Readiness = z.output<typeof readiness>;

export function healthRoutes(deps: ApiDeps, registry: Registry): Route[] {
  const check = together(() => checkReadiness(deps));

  const livez = route({
    method: 'get',
    path: '/livez',
    open: true,
    operation: {
      operationId: 'livez',
      summary: 'Whether the process answers',
      responses: { '200': json('It does.', z.object({ ok: z.literal(true) })) },
    },
    handle: async () => ({ status: 200, body: { ok: true } }),
  });

  const readyz = route({
    method: 'get',
    path: '/readyz',
    open: true,
    operation: {
      operationId: 'readyz',
      summary: 'Whether requests can be served: each dependency, and what the servers of each cell enforce',
      responses: { '200': json('Ready.', readiness), '503': json('Not ready.', readiness) },
    },
    async handle() {
      const body = await check();
      return { status: body.ready ? 200 : 503, body };
    },
  });

  const metrics = route({
    method: 'get',
    path: '/metrics',
    open: true,
    operation: {
      operationId: 'metrics',
      summary: 'Metrics for Prometheus',
      responses: {
        '200': { description: 'The text format.', content: { 'text/plain': { schema: z.string() } } },
      },
    },
    handle: async () => ({
      status: 200,
      headers: { 'Content-Type': registry.contentType },
      body: await registry.metrics(),
    }),
  });

  return [livez, readyz, metrics];
}

async function checkReadiness({ catalogue, temporal, config, closing, logger }: ApiDeps): Promise<Readiness> {
  const failed = (dependency: string) => (error: unknown) =>
    logger.warn({ err: error, dependency }, 'not ready');
  const countWorkers = async (): Promise<number> => {
    const queue = await temporal.withDeadline(Date.now() + PATIENCE, () =>
      temporal.workflowService.describeTaskQueue({
        namespace: temporal.options.namespace,
        taskQueue: { name: config.TENANTRY_TEMPORAL_TASK_QUEUE },
        taskQueueType: proto.api.enums.v1.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
      }),
    );
    return queue.pollers.length;
  };
  const [cells, workers] = await Promise.all([
    answerWithin(PATIENCE, cellsOf(catalogue), failed('catalogue')),
    answerWithin(PATIENCE, countWorkers, failed('temporal')),
  ]);
  return {
    ready:
      workers !== undefined &&
      (cells?.some((cell) => cell.preparedAt !== null) ?? false) &&
      closing?.aborted !== true,
    catalogue: { ok: cells !== undefined },
    temporal: workers === undefined ? { ok: false } : { ok: true, workers },
    cells: (cells ?? []).map(viewCell),
  };
}

const cellsOf = (catalogue: ApiDeps['catalogue']) => async (): Promise<Cell[]> => {
  if (!(await catalogue.hasItsShape())) throw new Error('the catalogue is to be migrated');
  return catalogue.cells.all();
};

function viewCell({
  name,
  preparedAt,
  mongoEnforcement,
  trial,
  tenants,
  capacity,
}: Cell): Readiness['cells'][number] {
  const isolated = mongoEnforcement === 'guard' || trial?.notRefused.length === 0;
  return {
    name,
    prepared: preparedAt !== null,
    takesTenants: preparedAt !== null && isolated && tenants < capacity,
    mongo: {
      enforcement: mongoEnforcement,
      weaker: mongoEnforcement === 'guard',
      trial: trial && {
        triedAt: trial.triedAt,
        server: trial.server,
        refused: [...trial.refused],
        notRefused: [...trial.notRefused],
      },
    },
  };
}

/** The result, or undefined when it failed or took too long; why is for the log, not for whoever asks. */
async function answerWithin<T>(
  milliseconds: number,
  work: () => Promise<T>,
  failed: (error: unknown) => void,
): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([work(), late]);
  } catch (error) {
    failed(error);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Callers that come while one check runs share it: no token is needed here, and the stores are not to be drummed on. */
function together<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => {
    running ??= work().finally(() => {
      running = undefined;
    });
    return running;
  };
}
