// Redis on this machine: the environment's, the PATH's, or the system's package.

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { Redis } from 'ioredis';
import { findServer, onThePath } from './find.js';
import { installCommand, systemPackage } from './package.js';
import { accepts } from './ports.js';
import { secretIn, writePrivate } from './secret.js';
import { existingServer, type RunningServer, type ServerOptions, startedServer } from './server.js';
import { supervise } from './supervise.js';

const variable = 'TENANTRY_CELL_REDIS_URL';
const packages = {
  'apt-get': 'redis-server',
  dnf: 'redis',
  yum: 'redis',
  apk: 'redis',
  zypper: 'redis',
  pacman: 'redis',
  brew: 'redis',
};

export async function startRedis(o: ServerOptions): Promise<RunningServer> {
  const env = o.env ?? process.env;
  const existing = env[variable];
  if (existing) return existingServer({ name: 'Redis', variable, url: existing, version: askVersion });

  const onPath = onThePath({ command: 'redis-server', atLeast: 7, env, signal: o.signal });
  const found = await findServer({
    name: 'Redis 7 or later',
    ways: [onPath, systemPackage({ ...o, name: 'Redis', packages, again: onPath, env })],
    mend: () => installCommand(env, packages, 'Redis 7 or later'),
    signal: o.signal,
  });

  const folder = path.join(o.dataDir, 'redis');
  const data = path.join(folder, 'data');
  const conf = path.join(folder, 'redis.conf');
  mkdirSync(data, { recursive: true });
  const password = secretIn(path.join(folder, 'password'));
  const urlOf = (port: number) => `redis://default:${password}@127.0.0.1:${port}`;
  const server = await supervise({
    name: 'Redis',
    folder,
    report: o.report,
    signal: o.signal,
    stopSignal: 'SIGTERM',
    launch: (port) => {
      // In a private file and not in the arguments, which every user of the machine can list.
      writePrivate(conf, settings({ port, password, data }));
      return { command: found.binary, args: [conf], env };
    },
    answers: async (port) => {
      await accepts('127.0.0.1', port);
      await askVersion(urlOf(port));
    },
  });
  return startedServer(server, { name: 'Redis', url: urlOf(server.port), found });
}

function settings(o: { readonly port: number; readonly password: string; readonly data: string }): string {
  const quoted = (value: string) => JSON.stringify(value);
  return [
    'bind 127.0.0.1',
    `port ${o.port}`,
    `requirepass ${quoted(o.password)}`,
    `dir ${quoted(o.data)}`,
    // Acknowledged means on disk; a snapshot now and then would add nothing to that.
    'appendonly yes',
    'appendfsync always',
    'save ""',
    'daemonize no',
    'logfile ""',
    'loglevel notice',
    '',
  ].join('\n');
}

async function askVersion(url: string): Promise<string> {
  const client = new Redis(url, {
    lazyConnect: true,
    connectTimeout: 5_000,
    commandTimeout: 5_000,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  // Its errors also arrive where they are awaited; without a listener they would be printed as well.
  let failure: Error | undefined;
  client.on('error', (error: Error) => {
    failure = error;
  });
  try {
    await client.connect();
    const info = await client.info('server');
    return /redis_version:(\S+)/.exec(info)?.[1] ?? 'of an unknown version';
  } catch (error) {
    throw failure ?? error;
  } finally {
    client.disconnect();
  }
}
