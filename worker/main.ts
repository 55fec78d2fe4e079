/** The worker process. */
import { setTimeout as wait } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { ActivityDependencies } from '../activities/dependencies.js';
import { createActivities } from '../activities/index.js';
import { type Catalogue, openCatalogue } from '../catalogue/index.js';
import { readConfig, redacted, resolveSecret } from '../domain/config.js';
import { cellName } from '../domain/ids.js';
import { createLogger } from '../domain/log.js';
import { loadManifest } from '../domain/load-manifest.js';
import { mongoFootprint } from '../domain/manifest.js';
import { breachAlarm } from './breach-alarm.js';
import { type Composition, compose } from './compose.js';
import { serveHealth } from './health.js';
import { keepRegistered, register } from './registrations.js';
import { createWorker, type TenantryWorkerOptions } from './worker.js';

/** What another entry may put around the parts of this one: instruments, or a test that steps in at a certain moment. */
export interface WorkerHooks {
  readonly around?: (dependencies: ActivityDependencies) => ActivityDependencies;
  readonly options?: Partial<TenantryWorkerOptions>;
}

export async function main(hooks: WorkerHooks = {}): Promise<void> {
  const config = readConfig([
    'TENANTRY_CATALOGUE_URL',
    'TENANTRY_TEMPORAL_ADDRESS',
    'TENANTRY_TEMPORAL_NAMESPACE',
    'TENANTRY_TEMPORAL_TASK_QUEUE',
    'TENANTRY_TEMPORAL_TLS',
    'TENANTRY_TEMPORAL_API_KEY',
    'TENANTRY_TEMPORAL_CONNECT_MS',
    'TENANTRY_ROOT_KEY',
    'TENANTRY_CONTEXT_KEY_IDS',
    'TENANTRY_CELL_NAME',
    // Read again by reference when the cell is opened; named here so that a worker without them does not even start.
    'TENANTRY_CELL_POSTGRES_OWNER_URL',
    'TENANTRY_CELL_POSTGRES_CONTROL_URL',
    'TENANTRY_CELL_POSTGRES_RUNTIME_URL',
    'TENANTRY_CELL_POSTGRES_PURGE_URL',
    'TENANTRY_CELL_MONGO_URL',
    'TENANTRY_CELL_REDIS_URL',
    'TENANTRY_CELL_MONGO_ENFORCEMENT',
    'TENANTRY_CELL_CAPACITY_TENANTS',
    'TENANTRY_CELL_CAPACITY_COLLECTIONS',
    'TENANTRY_WORKER_HEALTH_PORT',
    'TENANTRY_WORKER_SHUTDOWN_MS',
    'TENANTRY_WORKER_ACTIVITIES',
    'TENANTRY_WORKER_CONNECTIONS',
    'TENANTRY_ISOLATION_PROBE_MS',
    'TENANTRY_ISOLATION_PROBE_SAMPLE',
    'TENANTRY_MANIFEST',
    'TENANTRY_LOG_LEVEL',
  ]);
  const log = createLogger({ level: config.TENANTRY_LOG_LEVEL, name: 'tenantry-worker' });
  log.info({ config: redacted(config) }, 'starting');
  const manifest = await loadManifest(config.TENANTRY_MANIFEST);
  const connections = config.TENANTRY_WORKER_CONNECTIONS;
  const catalogue = openCatalogue({
    url: config.TENANTRY_CATALOGUE_URL,
    name: 'tenantry-worker',
    max: connections,
  });
  const composition = compose({
    catalogue,
    manifest,
    rootKey: Buffer.from(config.TENANTRY_ROOT_KEY, 'base64'),
    contextKeyIds: config.TENANTRY_CONTEXT_KEY_IDS,
    resolveSecret,
    poolSize: connections,
    log,
  });

  const stopping = new AbortController();
  const connecting = {
    address: config.TENANTRY_TEMPORAL_ADDRESS,
    tls: config.TENANTRY_TEMPORAL_TLS,
    ...(config.TENANTRY_TEMPORAL_API_KEY ? { apiKey: config.TENANTRY_TEMPORAL_API_KEY } : {}),
  };
  const namespace = config.TENANTRY_TEMPORAL_NAMESPACE;
  const taskQueue = config.TENANTRY_TEMPORAL_TASK_QUEUE;
  const asking = await Connection.connect({
    ...connecting,
    connectTimeout: config.TENANTRY_TEMPORAL_CONNECT_MS,
  });
  const registering = {
    connection: asking,
    client: new Client({ connection: asking, namespace }),
    namespace,
    schedules: {
      taskQueue,
      isolationProbeEvery: config.TENANTRY_ISOLATION_PROBE_MS,
      isolationProbeSample: config.TENANTRY_ISOLATION_PROBE_SAMPLE,
    },
  };
  await register(registering);
  keepRegistered(registering, log, stopping.signal);
  const alarm = breachAlarm(log);
  const connection = await NativeConnection.connect(connecting);
  const worker = await createWorker({
    connection,
    namespace,
    taskQueue,
    activities: createActivities(hooks.around?.(composition.dependencies) ?? composition.dependencies),
    activitySlots: config.TENANTRY_WORKER_ACTIVITIES,
    shutdownGrace: config.TENANTRY_WORKER_SHUTDOWN_MS,
    ...hooks.options,
    interceptors: {
      ...hooks.options?.interceptors,
      activity: [alarm.interceptor, ...(hooks.options?.interceptors?.activity ?? [])],
    },
  });

  const prepared: Record<string, boolean> = {};
  const health = await serveHealth({
    worker,
    port: config.TENANTRY_WORKER_HEALTH_PORT,
    cells: () => prepared,
    metrics: [alarm.counter],
  });
  log.info({ health: `http://127.0.0.1:${health.port}` }, 'polling');
  const perTenant = mongoFootprint(manifest);
  const declaring = declareAndPrepare(catalogue, composition, prepared, stopping.signal, log, {
    name: cellName(config.TENANTRY_CELL_NAME),
    mongoEnforcement: config.TENANTRY_CELL_MONGO_ENFORCEMENT,
    capacity: Math.min(
      config.TENANTRY_CELL_CAPACITY_TENANTS,
      Math.floor(config.TENANTRY_CELL_CAPACITY_COLLECTIONS / Math.max(perTenant, 1)),
    ),
  });
  // worker.run() ends gracefully on SIGINT and SIGTERM: polls stop, running activities get their grace.
  try {
    await worker.run();
  } finally {
    endSoon(log);
    stopping.abort();
    await declaring;
    await health.close();
    await composition.close();
    await catalogue.close();
    await connection.close();
    await asking.close();
    log.info('stopped');
  }
}

/**
 * For closing what is open. Where a server hangs, or Temporal's core still has an activity that it tries again and again, not
 * all of it can be closed, and the process would stay.
 */
const FAREWELL_MS = 3_000;

function endSoon(log: Logger): void {
  setTimeout(() => {
    log.warn('not everything could be closed; what is left ends with the process');
    process.exit(process.exitCode ?? 1);
  }, FAREWELL_MS).unref();
}

/** Declares the environment's cell and prepares all, again and again while a store is away. */
async function declareAndPrepare(
  catalogue: Catalogue,
  { dependencies }: Composition,
  prepared: Record<string, boolean>,
  signal: AbortSignal,
  log: Logger,
  own: { name: ReturnType<typeof cellName>; mongoEnforcement: 'server' | 'guard'; capacity: number },
): Promise<void> {
  prepared[own.name] = false;
  for (let pause = 200; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
    try {
      await catalogue.cells.declare({
        ...own,
        postgresOwner: 'env:TENANTRY_CELL_POSTGRES_OWNER_URL',
        postgresControl: 'env:TENANTRY_CELL_POSTGRES_CONTROL_URL',
        postgresRuntime: 'env:TENANTRY_CELL_POSTGRES_RUNTIME_URL',
        postgresPurge: 'env:TENANTRY_CELL_POSTGRES_PURGE_URL',
        mongo: 'env:TENANTRY_CELL_MONGO_URL',
        redis: 'env:TENANTRY_CELL_REDIS_URL',
      });
      for (const { name } of await catalogue.cells.all()) {
        await dependencies.cells.get(name);
        prepared[name] = true;
      }
      log.info({ cells: Object.keys(prepared) }, 'the cells are prepared');
      return;
    } catch (error) {
      log.warn({ err: error, pause }, 'a cell is not prepared yet');
      await wait(pause, undefined, { signal }).catch(() => undefined);
    }
  }
}

if (require.main === module) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
