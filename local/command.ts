// Runs a command to its end: bounded, abortable with all its descendants, and with its words in the error.

import { spawn } from 'node:child_process';
import { StringDecoder } from 'node:string_decoder';
import { endTree } from './ending.js';
import { identityOf } from './identity.js';

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly signal?: AbortSignal | undefined;
  readonly withinMs?: number;
}

/** Resolves with what it printed; rejects with its last lines when it fails, is aborted or takes too long. */
export async function run(
  command: string,
  args: readonly string[],
  o: RunOptions = {},
): Promise<{ stdout: string }> {
  o.signal?.throwIfAborted();
  const child = spawn(command, args, {
    // A group of its own, as the servers have: an interrupted build is ended here, once, and not by the terminal.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: o.env ?? process.env,
    ...(o.cwd === undefined ? {} : { cwd: o.cwd }),
    ...(o.uid === undefined ? {} : { uid: o.uid }),
    ...(o.gid === undefined ? {} : { gid: o.gid }),
  });
  let stdout = '';
  let all = '';
  const decoder = new StringDecoder('utf8');
  child.stdout.on('data', (chunk: Buffer) => {
    const text = decoder.write(chunk);
    stdout += text;
    all += text;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    all += chunk.toString('utf8');
  });

  const shown = [command, ...args].join(' ');
  const identity = child.pid === undefined ? undefined : identityOf(child.pid);
  let endedBy: Error | undefined;
  let ending: Promise<void> | undefined;
  const end = (reason: Error) => {
    endedBy ??= reason;
    if (identity) ending ??= endTree(identity, 'SIGTERM', 2_000);
  };
  const onAbort = () => end(o.signal?.reason as Error);
  o.signal?.addEventListener('abort', onAbort, { once: true });
  const bound = o.withinMs ?? 0;
  const timer =
    bound > 0 ? setTimeout(() => end(new Error(`no end after ${bound / 1000} s`)), bound) : undefined;
  try {
    const code = await new Promise<number | string>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit, signal) => resolve(exit ?? signal ?? 'unknown'));
    });
    await ending;
    if (endedBy) throw endedBy;
    if (code !== 0) throw new Error(`\`${shown}\` failed (${code}):\n${lastLines(all)}`);
    return { stdout };
  } finally {
    clearTimeout(timer);
    o.signal?.removeEventListener('abort', onAbort);
  }
}

/** `{ '--port': 1, '--auth': true, '--ui': false }` as `--port 1 --auth`. */
export function flags(values: Readonly<Record<string, string | number | boolean>>): string[] {
  return Object.entries(values).flatMap(([flag, value]) => {
    if (typeof value === 'boolean') return value ? [flag] : [];
    return [flag, String(value)];
  });
}

function lastLines(text: string): string {
  return text.trimEnd().split('\n').slice(-12).join('\n');
}
