/**
 * A world of its own for a test: a copy of the catalogue, a cell database, a cell, a task queue. The servers are
 * shared (or, for tests that stop one, its own), the names never.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { Client, Connection } from '@temporalio/client';
import type { NativeConnection, Worker, WorkerOptions } from '@temporalio/worker';
import type pg from 'pg';
import type { Level, Logger } from 'pino';
import { createActivities } from '../../activities/index.js';
import type { ActivityDependencies } from '../../activities/dependencies.js';
import {
  CELL_ROLES,
  CONTROL_ROLES,
  postgresUrl,
  type RoleName,
  withClient,
} from '../../catalogue/bootstrap.js';
import { type Catalogue, openCatalogue } from '../../catalogue/index.js';
import type { Activities } from '../../domain/contracts.js';
import {
  type CellName,
  cellName,
  newOperationId,
  newTenantId,
  type OperationId,
  type TenantId,
} from '../../domain/ids.js';
import { createLogger } from '../../domain/log.js';
import type { Manifest } from '../../domain/manifest.js';
import type { CreateTenantBody } from '../../domain/requests.js';
import supportDesk from '../../manifest/support-desk.js';
import type { Silence } from '../../tenancy/cell-connections.js';
import { compose } from '../../worker/compose.js';
import { createWorker } from '../../worker/worker.js';
import { copyDatabase, dropDatabase } from './databases.js';
import { CELL_TEMPLATE, preparedTemplate } from './prepare.js';
import { type TestStack, testStack } from './stack.js';
import { connectWorkers } from './temporal-runtime.js';

export interface WorldOptions {
  /** Servers in the place of the shared ones. */
  readonly servers?: Partial<Pick<TestStack, 'mongoUrl' | 'redisUrl' | 'temporalAddress'>>;
  /** PostgreSQL servers for one of the two databases, as a superuser, with the templates of `prepare.ts`. */
  readonly postgres?: { readonly control?: string; readonly cell?: string };
  readonly manifest?: Manifest;
  readonly mongoEnforcement?: 'server' | 'guard';
  readonly capacity?: number;
  /**
   * Whether the cell is prepared before the test begins; true by default. Then what preparing finds is known: the cell's
   * tables are there, and what the shared MongoDB refuses was tried once for all tests.
   */
  readonly prepare?: boolean;
  readonly log?: Logger;
  /** How long a store's connection may be silent; as in production by default. */
  readonly silence?: Silence;
}

export interface World {
  readonly stack: TestStack;
  readonly cell: CellName;
  readonly manifest: Manifest;
  readonly catalogue: Catalogue;
  readonly dependencies: ActivityDependencies;
  readonly activities: Activities;
  readonly temporal: Client;
  readonly taskQueue: string;
  /** The environment by which a worker or API process lives in this world. */
  readonly env: Record<string, string>;
  /** The URL of the control or the cell database, as a role or as the superuser. */
  url(database: 'control' | 'cell', role?: RoleName): string;
  startWorker(options?: {
    activities?: Activities;
    /** Steps in between the activities and what they work with. */
    around?: (dependencies: ActivityDependencies) => ActivityDependencies;
    interceptors?: WorkerOptions['interceptors'];
    taskQueue?: string;
    /** Runs go as far as the catalogue takes them: nothing is made in a store. */
    catalogueOnly?: boolean;
    /** Milliseconds that activities get at its end before they are told to end too. */
    shutdownGrace?: number;
  }): Promise<RunningWorker>;
  /** Writes a request down as the API does. */
  ask(
    body?: Partial<CreateTenantBody>,
  ): Promise<{ tenantId: TenantId; operationId: OperationId; slug: string }>;
  close(): Promise<void>;
}

export interface RunningWorker {
  readonly worker: Worker;
  stop(): Promise<void>;
}

export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const stack = { ...testStack(), ...options.servers };
  const suffix = randomBytes(5).toString('hex');
  const databases = { control: `control_${suffix}`, cell: `cell_${suffix}` };
  const servers = { control: stack.postgresUrl, cell: stack.postgresUrl, ...options.postgres };
  const manifest = options.manifest ?? supportDesk;
  const isPrepared = options.prepare !== false;
  await onEach(servers, {
    control: (admin) =>
      copyDatabase(admin, {
        name: databases.control,
        template: stack.controlTemplate,
        roles: CONTROL_ROLES,
      }),
    cell: async (admin) =>
      copyDatabase(admin, {
        name: databases.cell,
        template: isPrepared && manifest === supportDesk ? await preparedTemplate(admin) : CELL_TEMPLATE,
        roles: CELL_ROLES,
      }),
  });
  const url: World['url'] = (database, role) =>
    postgresUrl(servers[database], databases[database], role, role && stack.passwords);

  const log = options.log ?? createLogger({ level: logLevel() });
  const cell = cellName(`cell-${suffix}`);
  const rootKey = randomBytes(32);
  const env = {
    TENANTRY_CATALOGUE_URL: url('control', 'catalogue'),
    TENANTRY_TEMPORAL_ADDRESS: stack.temporalAddress,
    TENANTRY_TEMPORAL_TASK_QUEUE: `queue-${suffix}`,
    TENANTRY_ROOT_KEY: rootKey.toString('base64'),
    TENANTRY_CELL_NAME: cell,
    TENANTRY_CELL_POSTGRES_OWNER_URL: url('cell', 'owner'),
    TENANTRY_CELL_POSTGRES_CONTROL_URL: url('cell', 'catalogue'),
    TENANTRY_CELL_POSTGRES_RUNTIME_URL: url('cell', 'runtime'),
    TENANTRY_CELL_POSTGRES_PURGE_URL: url('cell', 'purge'),
    TENANTRY_CELL_MONGO_URL: stack.mongoUrl,
    TENANTRY_CELL_MONGO_ENFORCEMENT: options.mongoEnforcement ?? stack.mongoEnforcement,
    TENANTRY_CELL_REDIS_URL: stack.redisUrl,
    TENANTRY_API_TOKEN: randomBytes(24).toString('base64url'),
    TENANTRY_API_PORT: '0',
    TENANTRY_LOG_LEVEL: 'warn',
  };
  const catalogue = openCatalogue({ url: env.TENANTRY_CATALOGUE_URL, name: `test-${suffix}` });
  await catalogue.cells.declare({
    name: cell,
    postgresOwner: 'env:TENANTRY_CELL_POSTGRES_OWNER_URL',
    postgresControl: 'env:TENANTRY_CELL_POSTGRES_CONTROL_URL',
    postgresRuntime: 'env:TENANTRY_CELL_POSTGRES_RUNTIME_URL',
    postgresPurge: 'env:TENANTRY_CELL_POSTGRES_PURGE_URL',
    mongo: 'env:TENANTRY_CELL_MONGO_URL',
    redis: 'env:TENANTRY_CELL_REDIS_URL',
    mongoEnforcement: options.mongoEnforcement ?? stack.mongoEnforcement,
    capacity: options.capacity ?? 10_000,
  });
  const resolveSecret = (reference: string): string => {
    const value = (env as Record<string, string>)[reference.replace(/^env:/, '')];
    if (value === undefined) throw new Error(`no secret ${reference}`);
    return value;
  };
  const composition = compose({
    catalogue,
    manifest,
    rootKey,
    resolveSecret,
    poolSize: 8,
    log,
    silence: options.silence,
    // Of the shared server it is known already. A test that prepares its cell by itself may be about the trial.
    ...(isPrepared && options.servers?.mongoUrl === undefined
      ? { tryEnforcement: () => Promise.resolve(stack.mongoTrial) }
      : {}),
  });
  const activities = createActivities(composition.dependencies);
  const address = stack.temporalAddress;
  // Both when they are first needed, which is never in many tests.
  const connection = Connection.lazy({ address });
  let native: Promise<NativeConnection> | undefined;
  if (isPrepared) await composition.dependencies.cells.get(cell);

  const workers = new Set<RunningWorker>();
  return {
    stack,
    cell,
    manifest,
    catalogue,
    dependencies: composition.dependencies,
    activities,
    temporal: new Client({ connection }),
    taskQueue: env.TENANTRY_TEMPORAL_TASK_QUEUE,
    env,
    url,
    async startWorker(overrides = {}) {
      const { around } = overrides;
      const worker = await createWorker({
        connection: await (native ??= connectWorkers(address)),
        namespace: 'default',
        taskQueue: overrides.taskQueue ?? env.TENANTRY_TEMPORAL_TASK_QUEUE,
        activities: around
          ? createActivities(around(composition.dependencies))
          : (overrides.activities ?? activities),
        activitySlots: 16,
        shutdownGrace: overrides.shutdownGrace ?? 5_000,
        workflowBundle: { codePath: stack.bundlePath },
        ...(overrides.interceptors ? { interceptors: overrides.interceptors } : {}),
        ...(overrides.catalogueOnly ? { localActivitiesOnly: true } : {}),
      });
      const running = worker.run();
      const handle: RunningWorker = {
        worker,
        async stop() {
          if (!workers.delete(handle)) return;
          worker.shutdown();
          await running;
        },
      };
      workers.add(handle);
      return handle;
    },
    async ask(body = {}) {
      const slug = body.slug ?? `t-${randomUUID().slice(0, 13)}`;
      const intake = await catalogue.requests.intake({
        kind: 'provision',
        body: { name: 'Acme', plan: 'team', ...body, slug },
      });
      return {
        tenantId: intake.tenantId ?? newTenantId(),
        operationId: intake.operationId ?? newOperationId(),
        slug,
      };
    },
    async close() {
      await Promise.all([...workers].map((worker) => worker.stop()));
      await (await native)?.close();
      await connection.close();
      await composition.close();
      await catalogue.close();
      await onEach(servers, {
        control: (admin) => dropDatabase(admin, databases.control),
        cell: (admin) => dropDatabase(admin, databases.cell),
      });
    },
  };
}

const logLevel = (): Level | 'silent' => (process.env['TENANTRY_TEST_LOG'] ?? 'silent') as Level | 'silent';

/** On one connection, where both databases are on one server. */
async function onEach(
  servers: Readonly<Record<'control' | 'cell', string>>,
  work: Readonly<Record<'control' | 'cell', (admin: pg.Client) => Promise<void>>>,
): Promise<void> {
  const { control, cell } = servers;
  await withClient(control, async (admin) => {
    await work.control(admin);
    if (cell === control) await work.cell(admin);
  });
  if (cell !== control) await withClient(cell, work.cell);
}
