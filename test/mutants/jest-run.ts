/** One run of Jest, with or without a mutant, and what came of it. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport } from '../../local/report.js';
import type { RunningServer } from '../../local/server.js';
import { ownEnv } from '../support/servers.js';
import { type Mutant, type Note, type OwnServer, VARIABLES } from './mutant.js';

export interface JestRun {
  readonly notes: readonly Note[];
  readonly failed: readonly FailedFile[];
  readonly timedOut: boolean;
}

/** A test file that did not pass. */
export interface FailedFile {
  readonly path: string;
  readonly message: string;
  /** Whether it has tests at all: not, when it or what it imports could not be loaded. */
  readonly ran: boolean;
}

export interface Choice {
  readonly tests: readonly string[];
  readonly named?: string | undefined;
}

/** A mutant may make tests hang. Without one there are many. */
const PATIENCE_MS = { mutant: 240_000, unchanged: 900_000 };

/** @param folder for what the run writes; each has one of its own in it */
export async function runJest(
  choice: Choice,
  mutant: Mutant | undefined,
  folder: string,
  signal: AbortSignal,
): Promise<JestRun> {
  const own = await mkdtemp(path.join(folder, 'run-'));
  const server = await ownServer(mutant, own, signal);
  try {
    return await jest(choice, own, signal, {
      ...process.env,
      [VARIABLES.notes]: path.join(own, 'notes'),
      ...(mutant && { [VARIABLES.mutant]: JSON.stringify(mutant) }),
      ...(server && { [VARIABLES.server]: JSON.stringify(server.seen) }),
    });
  } finally {
    await server?.running.stop();
    await rm(own, { recursive: true, force: true });
  }
}

async function ownServer(
  mutant: Mutant | undefined,
  dataDir: string,
  signal: AbortSignal,
): Promise<{ running: RunningServer; seen: OwnServer } | undefined> {
  const place = { dataDir, report: silentReport, env: ownEnv(), durable: false, signal };
  switch (mutant?.ownServer) {
    case 'postgres': {
      const running = await startPostgres(place);
      return { running, seen: { postgresUrl: running.url } };
    }
    case 'redis': {
      const running = await startRedis(place);
      return { running, seen: { redisUrl: running.url } };
    }
    case undefined:
      return undefined;
  }
}

async function jest(
  { tests, named }: Choice,
  own: string,
  signal: AbortSignal,
  env: NodeJS.ProcessEnv,
): Promise<JestRun> {
  const results = path.join(own, 'results.json');
  const args = [
    path.join('node_modules', '.bin', 'jest'),
    `--config=${JSON.stringify(config())}`,
    '--runInBand',
    '--silent',
    // A test that failed may have left something open.
    '--forceExit',
    '--json',
    `--outputFile=${results}`,
    ...(named === undefined ? [] : [`--testNamePattern=${named}`]),
    ...tests,
  ];
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  let timedOut = false;
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(
    () => {
      timedOut = true;
      kill();
    },
    PATIENCE_MS[env[VARIABLES.mutant] === undefined ? 'unchanged' : 'mutant'],
  );
  signal.addEventListener('abort', kill, { once: true });
  if (signal.aborted) kill();
  try {
    await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
    signal.throwIfAborted();
    return { notes: notesIn(path.join(own, 'notes')), failed: failedIn(results, output), timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', kill);
  }
}

/** The project's, with servers that are there already. The same for all mutants, so that Jest's cache serves all. */
function config(): unknown {
  const root = process.cwd();
  const {
    transform,
    globalSetup: _setup,
    globalTeardown: _teardown,
    ...rest
  } = createRequire(path.join(root, 'package.json'))('./jest.config.js') as {
    transform: Record<string, [string, unknown]>;
    globalSetup: string;
    globalTeardown: string;
  };
  return {
    ...rest,
    rootDir: root,
    transform: Object.fromEntries(
      Object.entries(transform).map(([files, [, options]]) => [
        files,
        ['<rootDir>/dist/test/mutants/transform.js', options],
      ]),
    ),
    testEnvironment: '<rootDir>/dist/test/mutants/environment.js',
    setupFilesAfterEnv: ['<rootDir>/test/mutants/own-server.ts'],
  };
}

function notesIn(file: string): Note[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Note);
}

function failedIn(file: string, output: string): FailedFile[] {
  if (!existsSync(file))
    return [{ path: '', message: `Jest has written no results: ${output.slice(-1_500)}`, ran: false }];
  const { testResults } = JSON.parse(readFileSync(file, 'utf8')) as {
    testResults: { name: string; status: string; assertionResults: unknown[]; message: string }[];
  };
  return testResults
    .filter(({ status }) => status === 'failed')
    .map(({ name, assertionResults, message }) => ({
      path: path.relative(process.cwd(), name),
      message: message.trim().slice(0, 1_500),
      ran: assertionResults.length > 0,
    }));
}
