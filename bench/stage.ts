// Where a benchmark plays: fresh servers in a folder of their own, the worker and the API as processes, and in this process
// the same connections for statements sent directly.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client, Connection } from '@temporalio/client';
import type { MongoClient } from 'mongodb';
import type { Pool } from 'pg';
import { pino } from 'pino';
import { createActivities } from '../activities/index.js';
import type { ActivityDependencies } from '../activities/dependencies.js';
import { openCatalogue } from '../catalogue/index.js';
import type { Activities } from '../domain/contracts.js';
import { readConfig, resolveSecret } from '../domain/config.js';
import { cellName } from '../domain/ids.js';
import { loadManifest } from '../domain/load-manifest.js';
import { mongoUserName } from '../domain/names.js';
import { prepareEnvironment } from '../local/environment.js';
import { startProcesses } from '../local/processes.js';
import { silentReport } from '../local/report.js';
import { startStack } from '../local/stack.js';
import type { PreparedCell } from '../tenancy/cell-registry.js';
import { openTenantClient } from '../tenancy/mongo/tenant-client.js';
import { ensureBundle } from '../worker/bundle.js';
import { type Composition, compose } from '../worker/compose.js';
import { poolKey, type Servers } from './statements.js';

/** The activities with connections of their own, on which their statements can be sent by hand too. */
export interface Side {
  readonly dependencies: ActivityDependencies;
  readonly activities: Activities;
  readonly servers: Servers;
}

/** A side whose MongoDB clients tell each command. That costs them time, so nothing is timed on it. */
export interface RecordingSide extends Side {
  /** Calls back with each MongoDB client that the activities open as a tenant. */
  onTenantClient(listener: (client: MongoClient, user: string) => void): () => void;
}

export interface Stage extends Side {
  readonly apiUrl: string;
  readonly token: string;
  readonly temporal: Client;
  readonly temporalAddress: string;
  readonly recording: RecordingSide;
  readonly environment: Record<string, string>;
  close(): Promise<void>;
}

/** As many as a worker's, for what is sent by hand too. */
const POOL = readConfig(['TENANTRY_WORKER_CONNECTIONS'], {}).TENANTRY_WORKER_CONNECTIONS;

export async function createStage(): Promise<Stage> {
  const directory = await mkdtemp(path.join(tmpdir(), 'tenantry-bench-'));
  const stack = await startStack({ dataDir: directory, persistent: false, report: silentReport });
  const { env: local, token } = await prepareEnvironment(stack, directory, silentReport);
  const env = {
    ...local,
    TENANTRY_LOG_LEVEL: 'error',
    TENANTRY_CELL_CAPACITY_TENANTS: '1000000',
    TENANTRY_CELL_CAPACITY_COLLECTIONS: '100000000',
  };
  await ensureBundle();
  const never = new AbortController().signal;
  const processes = await startProcesses({ dataDir: directory, env, report: silentReport, signal: never });

  const catalogue = openCatalogue({
    url: local['TENANTRY_CATALOGUE_URL'] ?? '',
    name: 'tenantry-bench',
    max: POOL,
  });
  const manifest = await loadManifest(undefined);
  const composed = (mongoUrl: string): Composition =>
    compose({
      catalogue,
      manifest,
      rootKey: Buffer.from(local['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
      resolveSecret: (reference) => resolveSecret(reference, { ...env, TENANTRY_CELL_MONGO_URL: mongoUrl }),
      poolSize: POOL,
      log: pino({ level: 'silent' }),
    });
  const plain = composed(stack.mongo.url);
  const monitored = composed(`${stack.mongo.url}&monitorCommands=true`);
  const { cell, ...side } = await sideOf(plain.dependencies);
  const connection = await Connection.connect({ address: stack.temporal.url });
  return {
    apiUrl: processes.apiUrl,
    token: token.value,
    temporal: new Client({ connection }),
    temporalAddress: stack.temporal.url,
    ...side,
    recording: await recordingOf(monitored.dependencies),
    environment: {
      postgres: stack.postgres.described,
      mongo: stack.mongo.described,
      redis: stack.redis.described,
      temporal: stack.temporal.described,
      durability: 'every store syncs each commit; Temporal keeps its histories in memory',
      mongoEnforcement: cell.cell.mongoEnforcement,
    },
    async close() {
      await connection.close();
      await Promise.all([plain.close(), monitored.close()]);
      await catalogue.close();
      await processes.stop();
      await stack.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function sideOf(dependencies: ActivityDependencies): Promise<Side & { cell: PreparedCell }> {
  const cell = await dependencies.cells.get(cellName('default'));
  const servers = serversOf(cell, dependencies.catalogue.pool);
  return { dependencies, activities: createActivities(dependencies), servers, cell };
}

async function recordingOf(dependencies: ActivityDependencies): Promise<RecordingSide> {
  const { warmClients } = dependencies;
  const listeners = new Set<(client: MongoClient, user: string) => void>();
  const side = await sideOf({
    ...dependencies,
    warmClients: {
      ...warmClients,
      take(mongoUrl, tenantId, password) {
        const taken = warmClients.take(mongoUrl, tenantId, password);
        for (const listener of listeners) listener(taken.client, mongoUserName(tenantId));
        // Who listens takes all that it hears for this tenant's.
        return { ...taken, giveBack: () => taken.close() };
      },
    },
  });
  return {
    ...side,
    onTenantClient(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** `user@database` of a pool, by its URL. */
function connectionOf(pool: Pool): { user: string; database: string } {
  const url = new URL(String(pool.options.connectionString));
  return { user: decodeURIComponent(url.username), database: url.pathname.slice(1) };
}

function serversOf(cell: PreparedCell, catalogue: ActivityDependencies['catalogue']['pool']): Servers {
  const pools = [catalogue, ...Object.values(cell.postgres)];
  return {
    pools: new Map(pools.map((pool) => [poolKey(connectionOf(pool)), pool])),
    mongo: cell.mongo,
    redis: cell.redis,
    redisAsTenant: cell.redisAsTenant,
    standing: new Map(cell.canary ? [[mongoUserName(cell.canary.tenantId), cell.canary.mongo]] : []),
    passwords: new Map(),
    openMongo: (tenantId, password) => openTenantClient(cell.mongoUrl, tenantId, password),
  };
}
