// Fresh servers for one benchmark, in a folder that is removed afterwards; found the same way as `npm start` finds them.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startMongo } from '../local/mongo.js';
import { startPostgres } from '../local/postgres.js';
import { startRedis } from '../local/redis.js';
import { silentReport } from '../local/report.js';
import type { RunningServer, ServerOptions } from '../local/server.js';

const START = {
  postgres: startPostgres,
  mongo: startMongo,
  redis: startRedis,
} satisfies Record<string, (options: ServerOptions) => Promise<RunningServer>>;
export type ServerName = keyof typeof START;

export interface BenchServers<Name extends ServerName> {
  /** As an administrator. */
  readonly urls: Readonly<Record<Name, string>>;
  /** Which servers they are, in words. */
  readonly environment: Record<string, string>;
}

export async function withServers<Name extends ServerName, T>(
  names: readonly Name[],
  work: (servers: BenchServers<Name>) => Promise<T>,
): Promise<T> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'tenantry-bench-'));
  const started = await Promise.allSettled(
    names.map(async (name) => {
      const server = await START[name]({ dataDir, report: silentReport, env: withoutGivenServers() });
      return { name, server };
    }),
  );
  const running = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason;
    return await work({
      urls: Object.fromEntries(running.map(({ name, server }) => [name, server.url])) as Record<Name, string>,
      environment: Object.fromEntries(running.map(({ name, server }) => [name, server.described])),
    });
  } finally {
    await Promise.all(running.map(({ server }) => server.stop()));
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** Thousands of users and roles with new passwords have no place in a server that somebody works with. */
function withoutGivenServers(): NodeJS.ProcessEnv {
  const {
    TENANTRY_POSTGRES_ADMIN_URL: _postgres,
    TENANTRY_CELL_MONGO_URL: _mongo,
    TENANTRY_CELL_REDIS_URL: _redis,
    ...rest
  } = process.env;
  return rest;
}
