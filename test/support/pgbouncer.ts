/** A real PgBouncer in transaction mode: the PATH's, or the system's package. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Found, findServer, NotFoundError, onThePath } from '../../local/find.js';
import { installCommand, systemPackage } from '../../local/package.js';
import { accepts } from '../../local/ports.js';
import { silentReport } from '../../local/report.js';
import { type Supervised, supervise } from '../../local/supervise.js';
import { secretFileFor, unprivileged } from '../../local/unprivileged.js';

export interface PgBouncerOptions {
  /** The database behind it as the role that logs in at both, with its password. */
  readonly url: string;
  /** Connections to the server: few, so that clients meet each other's. */
  readonly servers: number;
  /** max_prepared_statements, which those before 1.21 have not. */
  readonly prepared: number;
}

export interface PgBouncer {
  /** As `PgBouncerOptions.url`, by way of PgBouncer. */
  readonly url: string;
  close(): Promise<void>;
}

const packages = {
  'apt-get': 'pgbouncer',
  dnf: 'pgbouncer',
  yum: 'pgbouncer',
  apk: 'pgbouncer',
  zypper: 'pgbouncer',
  pacman: 'pgbouncer',
  brew: 'pgbouncer',
};

/** Debian has it where only root looks. */
const env: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: `${process.env['PATH'] ?? ''}${path.delimiter}/usr/sbin`,
};

/** Where there is none and none may be installed: the reason and the remedy, printed as well. */
export async function findPgBouncer(): Promise<Found | undefined> {
  const onPath = onThePath({ command: 'pgbouncer', atLeast: 1, env });
  try {
    return await findServer({
      name: 'PgBouncer',
      ways: [
        onPath,
        systemPackage({ name: 'PgBouncer', packages, again: onPath, env, report: silentReport }),
      ],
      mend: () => installCommand(env, packages, 'PgBouncer'),
    });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    say(`its tests are skipped. ${error.message}`);
    return undefined;
  }
}

/**
 * Whether it keeps prepared statements for its clients and lets go of a server only when all its answers were given:
 * 1.21 and 1.22.1, https://github.com/pgbouncer/pgbouncer/pull/1025.
 */
export const pipelines = (found: Found): boolean => isAtLeast(found, [1, 22, 1]);

/** The same, and says so where not. */
export function mayPipeline(found: Found): boolean {
  const may = pipelines(found);
  if (!may) say(`${found.version} is before 1.22.1: what needs prepared or pipelined statements is skipped.`);
  return may;
}

function isAtLeast({ version }: Found, wanted: readonly number[]): boolean {
  const parts = version.split('.').map(Number);
  const at = wanted.findIndex((part, i) => part !== (parts[i] ?? 0));
  return at < 0 || (parts[at] ?? 0) > (wanted[at] ?? 0);
}

export async function startPgBouncer(found: Found, o: PgBouncerOptions): Promise<PgBouncer> {
  const folder = mkdtempSync(path.join(tmpdir(), 'tenantry-pgbouncer-'));
  const user = await unprivileged({ folder, binary: found.binary, env });
  const users = path.join(folder, 'users.txt');
  const conf = path.join(folder, 'pgbouncer.ini');
  const { username, password } = new URL(o.url);
  const quoted = (value: string): string => `"${decodeURIComponent(value).replaceAll('"', '""')}"`;
  // In plain text: of it both of its sides of SCRAM are made.
  secretFileFor(user, users, `${quoted(username)} ${quoted(password)}\n`);
  const server: Supervised = await supervise({
    name: 'PgBouncer',
    folder,
    report: silentReport,
    // Waits for transactions and not, as SIGTERM does since 1.23, for clients.
    stopSignal: 'SIGINT',
    launch: (port) => {
      secretFileFor(user, conf, settings(o, { users, port, keeps: isAtLeast(found, [1, 21]) }));
      return user.launch(found.binary, [conf]);
    },
    answers: (port) => accepts('127.0.0.1', port),
  });
  const url = new URL(o.url);
  url.host = `127.0.0.1:${server.port}`;
  return {
    url: url.href,
    async close() {
      await server.stop();
      rmSync(folder, { recursive: true });
    },
  };
}

function settings(
  { url, servers, prepared }: PgBouncerOptions,
  { users, port, keeps }: { readonly users: string; readonly port: number; readonly keeps: boolean },
): string {
  const { hostname, port: behind, pathname } = new URL(url);
  const database = pathname.slice(1);
  return [
    '[databases]',
    `${database} = host=${hostname} port=${behind} dbname=${database}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    // No socket file: its directory would have to be writable by whoever runs it.
    'unix_socket_dir =',
    'auth_type = scram-sha-256',
    `auth_file = ${users}`,
    'pool_mode = transaction',
    `default_pool_size = ${servers}`,
    'max_client_conn = 200',
    ...(keeps ? [`max_prepared_statements = ${prepared}`] : []),
    '',
  ].join('\n');
}

const say = (line: string): void => void process.stderr.write(`PgBouncer: ${line}\n`);
