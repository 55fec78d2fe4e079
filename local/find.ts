// How a server is looked for: one way after the other, and one message when none leads to it.

import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import { run } from './command.js';
import { reasonOf } from './reason.js';

/** Where a server was found, in the order in which it is looked for. */
export type Source =
  /** a URL in the environment: somebody else's server, never stopped by us */
  | 'environment'
  /** a binary on the PATH, started by us */
  | 'path'
  /** a binary from an npm package, a download or a build in the cache, started by us */
  | 'embedded'
  /** a binary of the system's package that we have just installed, started by us */
  | 'installed';

export interface Found {
  readonly source: Source;
  /** As it was found: Debian's redis-server is a link to a program that looks at the name it was called by. */
  readonly binary: string;
  readonly version: string;
  /** Where it came from, for people: `postgres on the PATH, /usr/bin/postgres`. */
  readonly where: string;
}

export interface Way<F extends Found = Found> {
  /** For the message: `on the PATH for redis-server`. */
  readonly looked: string;
  /** What was found, or the reason why it is not to be had this way. */
  readonly look: () => Promise<F | string>;
}

/** Takes the first way that leads somewhere. */
export async function findServer<F extends Found>(o: {
  readonly name: string;
  readonly ways: readonly Way<F>[];
  /** The one command that mends it. */
  readonly mend: () => Promise<string> | string;
  readonly signal?: AbortSignal | undefined;
}): Promise<F> {
  const misses: string[] = [];
  for (const { looked, look } of o.ways) {
    o.signal?.throwIfAborted();
    const result = await look().catch((error: unknown) => {
      o.signal?.throwIfAborted();
      return reasonOf(error);
    });
    if (typeof result !== 'string') return result;
    misses.push(`  ${looked}: ${result.trimEnd().replaceAll('\n', '\n    ')}`);
  }
  throw new NotFoundError(
    [`${o.name} cannot be had. Looked`, ...misses, `To mend it: ${await o.mend()}`].join('\n'),
  );
}

export class NotFoundError extends Error {
  override readonly name = 'NotFoundError';
}

/** A binary on the PATH that says a version of at least `atLeast`. */
export function onThePath(o: {
  readonly command: string;
  readonly atLeast: number;
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}): Way {
  return {
    looked: `on the PATH for ${o.command}`,
    look: async () => {
      const binary = findOnPath(o.command, o.env);
      if (!binary) return 'not there';
      const version = await versionOf(binary, o);
      if (Number.parseInt(version, 10) < o.atLeast) {
        return `${binary} is version ${version}, and ${o.atLeast} or later is needed`;
      }
      return {
        source: 'path',
        binary,
        version,
        where: `${o.command} on the PATH, ${binary}`,
      };
    },
  };
}

/** The first number with dots that `--version` prints. */
export async function versionOf(
  binary: string,
  o: { readonly env?: NodeJS.ProcessEnv | undefined; readonly signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const { stdout } = await run(binary, ['--version'], { ...o, withinMs: 20_000 });
  const version = /\d+\.\d+(\.\d+)?(-[\w.]+)?/.exec(stdout)?.[0];
  if (!version) throw new Error(`${binary} --version says no version: ${stdout.trim().slice(0, 200)}`);
  return version;
}

export function findOnPath(command: string, env: NodeJS.ProcessEnv): string | undefined {
  return (env['PATH'] ?? '')
    .split(path.delimiter)
    .filter((folder) => path.isAbsolute(folder))
    .map((folder) => path.join(folder, command))
    .find(isExecutable);
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false; // not there, or not for us: both mean that it cannot be run
  }
}
