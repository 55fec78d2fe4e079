// Tells the watchdog which servers this process has, so that they end with it, however it ends.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ProcessIdentity } from './identity.js';

export function watch(server: ProcessIdentity, signal: NodeJS.Signals): void {
  dog ??= unleash();
  tell({ ...server, signal });
}

export function unwatch(server: ProcessIdentity): void {
  tell({ pid: server.pid });
}

let dog: ChildProcess | undefined;

function tell(message: object): void {
  dog?.stdin?.write(`${JSON.stringify(message)}\n`);
}

function unleash(): ChildProcess {
  // tsc does not copy it, and Jest runs the sources: so it may be beside this file or in the sources.
  const beside = path.join(__dirname, 'watchdog.mjs');
  const script = existsSync(beside) ? beside : path.join(__dirname, '..', '..', 'local', 'watchdog.mjs');
  const child = spawn(process.execPath, [script], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const lost = () => {
    if (dog === child) dog = undefined;
  };
  // Without it the servers still run, and the next start finds what is left of them.
  child.once('error', lost);
  child.once('exit', lost);
  child.stdin.on('error', lost);
  // Neither the child nor the pipe to it keeps this process alive.
  child.unref();
  if ('unref' in child.stdin && typeof child.stdin.unref === 'function') child.stdin.unref();
  return child;
}
