// Temporal's command line where it is not on the PATH: the SDK's own download, else a build from Go's proxy.

import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { cached } from './cache.js';
import { run } from './command.js';
import { download } from './download.js';
import { findOnPath, type Way } from './find.js';
import { type Report, reported } from './report.js';
import { reasonOf } from './reason.js';

/** The last one that `go install` takes: v1.6 and later have a local `replace` in their go.mod. */
const cli = '1.5.1';

export function downloadedTemporal(o: {
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
  readonly signal?: AbortSignal;
  readonly beginWithinMs?: number;
  readonly downloads?: string;
  readonly versionOf: (binary: string, o: { readonly env: NodeJS.ProcessEnv }) => Promise<string>;
}): Way {
  let how = 'kept in the cache';
  return {
    looked: `for Temporal's command line ${cli} as a download, then as a build`,
    look: async () => {
      const binary = await cached({
        name: 'temporal',
        version: cli,
        file: 'temporal',
        env: o.env,
        report: o.report,
        signal: o.signal,
        make: async (folder) => {
          how = await downloadElseBuild(folder, o);
        },
      });
      return {
        source: 'embedded',
        binary,
        version: await o.versionOf(binary, o),
        where: `${how}, ${binary}`,
      };
    },
  };
}

/** The one command that brings it to this machine. */
export function fetchCommand(env: NodeJS.ProcessEnv): string {
  if (findOnPath('brew', env)) return 'brew install temporal';
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  return `curl -sSfL '${archiveUrl('https://temporal.download')}' | ${sudo}tar -xz -C /usr/local/bin temporal`;
}

type Sources = Parameters<typeof downloadedTemporal>[0];

async function downloadElseBuild(folder: string, o: Sources): Promise<string> {
  let offline: string;
  try {
    await reported(o.report, `Temporal: downloading its command line ${cli}`, () => fetchInto(folder, o));
    return 'downloaded';
  } catch (error) {
    o.signal?.throwIfAborted();
    offline = reasonOf(error);
  }
  const go = findOnPath('go', o.env);
  if (!go) throw new Error(`download: ${offline}\nbuild: go is not on the PATH`);
  try {
    await reported(
      o.report,
      `Temporal: building its command line ${cli} with go install (about 4 minutes)`,
      () => build(go, folder, o),
    );
    return 'built with go install';
  } catch (error) {
    throw new Error(`download: ${offline}\nbuild: ${reasonOf(error)}`, { cause: error });
  }
}

/** The archive that @temporalio/testing would fetch; by ourselves, so that the wait has a bound. */
async function fetchInto(folder: string, o: Sources): Promise<void> {
  const archive = path.join(folder, 'temporal.tar.gz');
  await download(archiveUrl(o.downloads ?? 'https://temporal.download'), archive, {
    ...(o.beginWithinMs === undefined ? {} : { beginWithinMs: o.beginWithinMs }),
    signal: o.signal,
  });
  await run('tar', ['-xzf', archive, '-C', folder, 'temporal'], { env: o.env, signal: o.signal });
  rmSync(archive);
  chmodSync(path.join(folder, 'temporal'), 0o755);
}

/**
 * Without what only a debugger reads, and without the gRPC ways to Google's storage, which the server could keep archives
 * in: a fifth of the build's processor time.
 */
const lean = ['-tags=disable_grpc_modules', '-gcflags=all=-dwarf=false', '-ldflags=-s -w'];

async function build(go: string, folder: string, o: Sources): Promise<void> {
  const module = 'github.com/temporalio/cli';
  // In an empty folder, so that no go.mod or go.work of somebody else is taken into account.
  const cwd = path.join(folder, 'empty');
  mkdirSync(cwd);
  // Go's compiler spends a quarter of its processor time on looking for garbage among what it needs to its end.
  const lazily = { GOGC: '400', GOMEMLIMIT: '1GiB' };
  const env = { ...lazily, ...o.env, GOBIN: folder, GOFLAGS: '-buildvcs=false', GOWORK: 'off' };
  // Answers within a second where there is a proxy; the build itself is silent for minutes.
  await run(go, ['list', '-m', `${module}@v${cli}`], { env, cwd, signal: o.signal, withinMs: 30_000 });
  await run(go, ['install', ...lean, `${module}/cmd/temporal@v${cli}`], {
    env,
    cwd,
    signal: o.signal,
    withinMs: 1_800_000,
  });
  rmSync(cwd, { recursive: true });
}

function archiveUrl(base: string): string {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  return `${base}/cli/archive/v${cli}?platform=${process.platform}&arch=${arch}`;
}
