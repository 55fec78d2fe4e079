// Temporal on this machine: the environment's, the PATH's, or the dev server inside Temporal's own command line.

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { Connection, type WorkflowService } from '@temporalio/client';
import { flags, run } from './command.js';
import { findOnPath, findServer, type Found, type Way } from './find.js';
import { accepts, freePort } from './ports.js';
import { existingServer, type RunningServer, type ServerOptions, startedServer } from './server.js';
import { supervise } from './supervise.js';
import { downloadedTemporal, fetchCommand } from './temporal-binary.js';

const variable = 'TENANTRY_TEMPORAL_ADDRESS';

export interface TemporalOptions extends ServerOptions {
  /** true: histories survive a restart of the server, at about a third of the throughput. */
  readonly persistent: boolean;
  /** Temporal's web page, on a free port. */
  readonly ui: boolean;
  readonly searchAttributes: Readonly<Record<string, 'Keyword'>>;
  /** How long a download may take to begin before the next way is tried. Default 5 s. */
  readonly beginWithinMs?: number;
  /** Where downloads are asked for; another one in tests. */
  readonly downloads?: string;
}

export type TemporalServer = RunningServer & { readonly uiUrl: string | undefined };

export async function startTemporal(o: TemporalOptions): Promise<TemporalServer> {
  const env = o.env ?? process.env;
  const existing = env[variable];
  if (existing) {
    const server = await existingServer({
      name: 'Temporal',
      variable,
      url: existing,
      version: askAnyVersion,
    });
    return Object.assign(server, { uiUrl: env['TENANTRY_TEMPORAL_UI_URL'] });
  }
  const found = await findServer({
    name: 'Temporal',
    ways: [onPath(env, o.signal), downloadedTemporal({ ...o, env, versionOf })],
    mend: () => fetchCommand(env),
    signal: o.signal,
  });

  const folder = path.join(o.dataDir, 'temporal');
  mkdirSync(folder, { recursive: true });
  const uiPort = o.ui ? await freePort() : undefined;
  const server = await supervise({
    name: 'Temporal',
    folder,
    report: o.report,
    signal: o.signal,
    stopSignal: 'SIGTERM',
    launch: (port) => ({ command: found.binary, args: argumentsOf({ ...o, folder, port, uiPort }), env }),
    answers: async (port) => {
      await accepts('127.0.0.1', port);
      await askVersion(`127.0.0.1:${port}`);
      await findBy(Object.keys(o.searchAttributes), `127.0.0.1:${port}`);
    },
  });
  const started = startedServer(server, { name: 'Temporal', url: `127.0.0.1:${server.port}`, found });
  return Object.assign(started, { uiUrl: uiPort === undefined ? undefined : `http://127.0.0.1:${uiPort}` });
}

/**
 * The dev server has one history shard, polled at most 20 times a second by default, which costs each activity
 * ~105 ms. At 100 polls 5 activities in a row take 75-95 ms instead of 550; far above, throughput falls again.
 */
const dynamicConfig = {
  'history.transferProcessorMaxPollRPS': 100,
  'history.timerProcessorMaxPollRPS': 100,
  'history.visibilityProcessorMaxPollRPS': 100,
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  // An activity goes out with the answer to the workflow task that asked for it, to a worker with a free slot.
  'system.enableActivityEagerExecution': true,
  // The dev server would ask its database at each use which search attributes there are, for those who try out new ones.
  'system.forceSearchAttributesCacheRefreshOnRead': false,
};

const pragmas = ['journal_mode=WAL', 'synchronous=NORMAL'];

function argumentsOf(
  o: TemporalOptions & {
    readonly folder: string;
    readonly port: number;
    readonly uiPort: number | undefined;
  },
): string[] {
  const uiFlags = o.uiPort === undefined ? { '--headless': true } : { '--ui-port': o.uiPort };
  const stored = { '--db-filename': path.join(o.folder, 'temporal.db') };
  return [
    'server',
    'start-dev',
    ...flags({ '--ip': '127.0.0.1', '--port': o.port, '--log-level': 'warn', ...uiFlags }),
    ...Object.entries(dynamicConfig).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]),
    ...Object.entries(o.searchAttributes).flatMap(([name, type]) => [
      '--search-attribute',
      `${name}=${type}`,
    ]),
    // WAL with NORMAL: whole after a killed process, and at worst older after a power cut.
    ...(o.persistent ? [...flags(stored), ...pragmas.flatMap((pragma) => ['--sqlite-pragma', pragma])] : []),
  ];
}

function onPath(env: NodeJS.ProcessEnv, signal: AbortSignal | undefined): Way {
  return {
    looked: 'on the PATH for temporal',
    look: async (): Promise<Found | string> => {
      const binary = findOnPath('temporal', env);
      if (!binary) return 'not there';
      const version = await versionOf(binary, { env, signal });
      return { source: 'path', binary, version, where: `temporal on the PATH, ${binary}` };
    },
  };
}

/** The server's version; the command line's own is 0.0.0-DEV when it was built by `go install`. */
async function versionOf(
  binary: string,
  o: { readonly env: NodeJS.ProcessEnv; readonly signal?: AbortSignal | undefined },
): Promise<string> {
  const { stdout } = await run(binary, ['--version'], { ...o, withinMs: 20_000 });
  const version = /Server (\d[\w.-]*)/.exec(stdout)?.[1];
  if (!version) throw new Error(`${binary} --version names no server: ${stdout.trim().slice(0, 200)}`);
  return version;
}

async function askVersion(address: string): Promise<string> {
  return connected(address, async (ask) => {
    const info = await ask((service) => service.getSystemInfo({}));
    // Ready is not only listening: the namespace is registered a moment after the port is open.
    await ask((service) => service.describeNamespace({ namespace: 'default' }));
    return info.serverVersion ?? 'of an unknown version';
  });
}

/** New search attributes are refused for up to two seconds, until the server has looked again which there are. */
async function findBy(searchAttributes: readonly string[], address: string): Promise<void> {
  const query = searchAttributes.map((name) => `${name} = 'none'`).join(' AND ');
  await connected(address, (ask) =>
    ask((service) => service.countWorkflowExecutions({ namespace: 'default', query })),
  );
}

type Ask = <R>(question: (service: WorkflowService) => Promise<R>) => Promise<R>;

/** Each question has a bound of its own. */
async function connected<R>(address: string, work: (ask: Ask) => Promise<R>): Promise<R> {
  const connection = await Connection.connect({ address, connectTimeout: 2_000 });
  try {
    return await work((question) =>
      connection.withDeadline(Date.now() + 5_000, () => question(connection.workflowService)),
    );
  } finally {
    await connection.close();
  }
}

/** A borrowed one may want TLS or a key, which are not known here: then it is enough that it is there. */
async function askAnyVersion(address: string): Promise<string> {
  const [, host = '', port = ''] = /^\[?(.+?)\]?:(\d+)$/.exec(address) ?? [];
  if (host === '') throw new Error(`${variable} is to be host:port`);
  await accepts(host, Number(port), 5_000);
  try {
    return await askVersion(address);
  } catch {
    return 'of a version that it tells only after signing in';
  }
}
