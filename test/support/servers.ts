/** Servers of a test file's own, which it may stop, kill and pause. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startMongo } from '../../local/mongo.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport } from '../../local/report.js';
import type { RunningServer } from '../../local/server.js';
import { searchAttributes } from '../../local/stack.js';
import { startTemporal } from '../../local/temporal.js';
import { serverFolder } from './folder.js';
import { earnedMode, prepareTemplates, tryServer } from './prepare.js';
import { testStack } from './stack.js';
import type { WorldOptions } from './world.js';

export const SERVERS = ['control', 'cell', 'mongo', 'redis', 'temporal'] as const;
export type ServerName = (typeof SERVERS)[number];

export interface OwnServers {
  /** `control` and `cell` are PostgreSQL servers. */
  readonly servers: Readonly<Record<ServerName, RunningServer>>;
  /** For `createWorld`. */
  readonly world: Pick<WorldOptions, 'servers' | 'postgres' | 'mongoEnforcement'>;
  close(): Promise<void>;
}

/** All of them: what they acknowledged survives SIGKILL, Temporal's histories included. */
export async function startOwnServers(options: { mongoAuth?: boolean } = {}): Promise<OwnServers> {
  const directory = await serverFolder('own');
  const place = (name: string) => ({ dataDir: join(directory, name), report: silentReport, env: ownEnv() });
  const postgres = async (name: string): Promise<RunningServer> => {
    const server = await startPostgres(place(name));
    const { controlTemplate, passwords } = testStack();
    await prepareTemplates(server.url, controlTemplate, passwords);
    return server;
  };
  const started = await Promise.all([
    postgres('control'),
    postgres('cell'),
    startMongo({ ...place('mongo'), auth: options.mongoAuth ?? true }),
    startRedis(place('redis')),
    startTemporal({ ...place('temporal'), persistent: true, ui: false, searchAttributes }),
  ]);
  const [control, cell, mongo, redis, temporal] = started;
  return {
    servers: { control, cell, mongo, redis, temporal },
    world: {
      servers: { mongoUrl: mongo.url, redisUrl: redis.url, temporalAddress: temporal.url },
      postgres: { control: control.url, cell: cell.url },
      mongoEnforcement: options.mongoAuth === false ? 'server' : earnedMode(await tryServer(mongo.url)),
    },
    async close() {
      await Promise.all(started.map((server) => server.stop()));
      await rm(directory, { recursive: true, force: true });
    },
  };
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
