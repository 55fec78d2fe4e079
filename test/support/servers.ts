/** Servers of a test file's own, which it may stop, kill and pause. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startMongo } from '../../local/mongo.js';
import { type PostgresOptions, startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport } from '../../local/report.js';
import type { RunningServer } from '../../local/server.js';
import { searchAttributes } from '../../local/stack.js';
import { startTemporal } from '../../local/temporal.js';
import { discard } from './discard.js';
import { serverFolder } from './folder.js';
import { earnedMode, prepareTemplates, tryServer } from './prepare.js';
import { testStack } from './stack.js';
import type { WorldOptions } from './world.js';

export const SERVERS = ['control', 'cell', 'mongo', 'redis', 'temporal'] as const;
export type ServerName = (typeof SERVERS)[number];

export interface OwnServers<N extends ServerName> {
  /** `control` and `cell` are PostgreSQL servers. */
  readonly servers: Readonly<Record<N, RunningServer>>;
  /** Where a server keeps its data: a copy of it, made while it does not run, is a backup. */
  dataOf(name: N): string;
  /** For `createWorld`; what is not the file's own is shared. */
  readonly world: Pick<WorldOptions, 'servers' | 'postgres' | 'mongoEnforcement'>;
  close(): Promise<void>;
}

/** What they acknowledged survives SIGKILL, Temporal's histories included. */
export async function startOwnServers<N extends ServerName>(names: readonly N[]): Promise<OwnServers<N>> {
  const directory = await serverFolder('own');
  const place = (name: string) => ({ dataDir: join(directory, name), report: silentReport, env: ownEnv() });
  const starts: Record<ServerName, () => Promise<RunningServer>> = {
    control: () => preparedPostgres(place('control')),
    cell: () => preparedPostgres(place('cell')),
    mongo: () => startMongo(place('mongo')),
    redis: () => startRedis(place('redis')),
    temporal: () => startTemporal({ ...place('temporal'), persistent: true, ui: false, searchAttributes }),
  };
  const started = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await starts[name]()])),
  ) as Record<N, RunningServer>;
  const { control, cell, mongo, redis, temporal }: Partial<Record<ServerName, RunningServer>> = started;
  return {
    servers: started,
    dataOf: (name) => join(directory, name),
    world: {
      servers: {
        ...(mongo && { mongoUrl: mongo.url }),
        ...(redis && { redisUrl: redis.url }),
        ...(temporal && { temporalAddress: temporal.url }),
      },
      postgres: { ...(control && { control: control.url }), ...(cell && { cell: cell.url }) },
      ...(mongo && { mongoEnforcement: earnedMode(await tryServer(mongo.url)) }),
    },
    async close() {
      await discard(Object.values<RunningServer>(started));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function preparedPostgres(options: PostgresOptions): Promise<RunningServer> {
  const server = await startPostgres(options);
  const { controlTemplate, passwords } = testStack();
  await prepareTemplates(server.url, controlTemplate, passwords);
  return server;
}

/** Without the servers that the environment may name: those are somebody else's, and are never stopped. */
export function ownEnv(): NodeJS.ProcessEnv {
  const {
    TENANTRY_POSTGRES_ADMIN_URL: _postgres,
    TENANTRY_CELL_MONGO_URL: _mongo,
    TENANTRY_CELL_REDIS_URL: _redis,
    TENANTRY_TEMPORAL_ADDRESS: _temporal,
    ...rest
  } = process.env;
  return rest;
}
