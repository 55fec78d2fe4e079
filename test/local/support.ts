// What the tests of local/ share: throw-away folders, a PATH made for the test, and processes of their own.

import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { transformFileSync } from '@swc/core';
import { findOnPath } from '../../local/find.js';
import { sendSignal } from '../../local/identity.js';
import type { Report } from '../../local/report.js';

const root = path.resolve(__dirname, '..', '..');

export interface Place {
  /** A folder of mode 700, as mktemp makes them. */
  readonly folder: string;
  /** Runs when the test is over, the newest first. */
  after(undo: () => unknown): void;
  leave(): Promise<void>;
}

export function makePlace(): Place {
  const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'tenantry-local-')));
  const undos: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  return {
    folder,
    after: (undo) => undos.unshift(undo),
    async leave() {
      for (const undo of undos) await undo();
    },
  };
}

/** Every place that the test of this file made is left, with all that was started in it. */
export function places(): () => Place {
  const made: Place[] = [];
  afterEach(async () => {
    for (const place of made.splice(0)) await place.leave();
  });
  return () => {
    const place = makePlace();
    made.push(place);
    return place;
  };
}

/** A report that remembers its lines. */
export function listening(): Report & { readonly lines: string[] } {
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  return {
    lines,
    info: say,
    progress: (what) => {
      say(`... ${what}`);
      return { done: () => say(`ok ${what}`), failed: (note) => say(`no ${what}: ${note}`) };
    },
  };
}

/** A PATH of one folder with the named programs of this machine, and nothing else. */
export function pathWith(place: Place, names: readonly string[]): string {
  const bin = mkdtempSync(path.join(place.folder, 'bin-'));
  for (const name of names) {
    const real = findOnPath(name, process.env);
    if (real) symlinkSync(realpathSync(real), path.join(bin, name));
  }
  return bin;
}

/** What the search itself needs of a system: a shell, tar, and a way for PostgreSQL to run as another user. */
export const plainTools = ['sh', 'id', 'setpriv', 'tar', 'gzip', 'mv', 'ps', 'node', 'cat', 'ln', 'sleep'];

export function script(folder: string, name: string, text: string): string {
  const file = path.join(folder, name);
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}

/** The environment without the URLs of servers that may exist on this machine, and with a cache of its own. */
export function environment(place: Place, extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of Object.keys(env)) if (name.startsWith('TENANTRY_')) delete env[name];
  return { ...env, TENANTRY_CACHE_DIR: path.join(place.folder, 'cache'), ...extra };
}

/** The environment of this machine, with its cache: for tests that need a server, whichever it is. */
export function anyServer(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of Object.keys(env)) if (/^TENANTRY_.*(URL|ADDRESS)$/.test(name)) delete env[name];
  return env;
}

/** A Node process of its own with local/ compiled: `code` is CommonJS and says `ready` with what it likes. */
export async function otherProcess(
  place: Place,
  code: string,
  env: NodeJS.ProcessEnv,
): Promise<{ readonly child: ChildProcess; readonly said: string }> {
  const file = path.join(compiledIn(place), 'main.js');
  writeFileSync(file, `const ready = (text) => process.stdout.write('ready ' + text + '\\n');\n${code}`);
  const child = spawn(process.execPath, [file], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  place.after(() => child.pid !== undefined && sendSignal(child.pid, 'SIGKILL'));
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('ready ')) return { child, said: line.slice('ready '.length) };
  }
  throw new Error('The other process ended before it was ready.');
}

function compiledIn(place: Place): string {
  const folder = path.join(place.folder, 'compiled');
  if (existsSync(folder)) return folder;
  mkdirSync(path.join(folder, 'local'), { recursive: true });
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  for (const name of readdirSync(path.join(root, 'local'))) {
    const from = path.join(root, 'local', name);
    const to = path.join(folder, 'local', name.replace(/\.ts$/, '.js'));
    if (!name.endsWith('.ts')) copyFileSync(from, to);
    else {
      const options = { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' } } as const;
      writeFileSync(
        to,
        transformFileSync(from, { ...options, swcrc: false, module: { type: 'commonjs' } }).code,
      );
    }
  }
  return folder;
}

export async function until(what: string, condition: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await delay(20);
  }
}

/** The process that `server.json` names. */
export function noted(folder: string): { readonly pid: number; readonly started: string } {
  const file = path.join(folder, 'server.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { process: { pid: number; started: string } }).process;
}
