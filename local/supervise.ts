// One server process: started apart from the terminal, watched, stopped in good order, or killed.

import { spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { endTree, killTree } from './ending.js';
import { type ProcessIdentity, identityOf, isAlive, sendSignal, treeOf } from './identity.js';
import { freePort } from './ports.js';
import type { Report } from './report.js';
import { writePrivate } from './secret.js';
import { reasonOf } from './reason.js';
import { unwatch, watch } from './watch.js';

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly uid?: number;
  readonly gid?: number;
}

export interface ServerPlan {
  /** For people: `PostgreSQL`. */
  readonly name: string;
  /** Holds `server.json` (who runs, on which port) and `server.log`. */
  readonly folder: string;
  readonly report: Report;
  readonly launch: (port: number) => Launch;
  /** One attempt. Throws while the server does not answer; what it does last before giving up is told. */
  readonly answers: (port: number) => Promise<void>;
  /** What asks this server to finish its work and leave. */
  readonly stopSignal: NodeJS.Signals;
  readonly readyWithinMs?: number;
  readonly stopWithinMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Supervised {
  readonly port: number;
  readonly pid: number | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
}

/** Stops what an earlier, killed stack left running in this folder, then starts the server. */
export async function supervise(plan: ServerPlan): Promise<Supervised> {
  mkdirSync(plan.folder, { recursive: true });
  await stopLeftover(plan);
  const wished = readNote(plan.folder)?.port;
  // Between finding a free port and binding it another process may take it: then, and only then, try another.
  for (let attempt = 1; ; attempt++) {
    const server = new Server(plan, await freePort(attempt === 1 ? wished : undefined));
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.kill();
      if (attempt === 3 || !/address (already )?in use|EADDRINUSE/i.test(reasonOf(error))) throw error;
    }
  }
}

/** Ends the server that `server.json` names, if it is still that process and not a stranger with its pid. */
export async function stopLeftover(
  plan: Pick<ServerPlan, 'name' | 'folder' | 'report' | 'stopSignal'>,
): Promise<void> {
  const leftover = readNote(plan.folder)?.process;
  if (!leftover || !isAlive(leftover)) return;
  plan.report.info(`${plan.name}: an earlier stack left process ${leftover.pid} running; stopping it`);
  await endTree(leftover, plan.stopSignal, 10_000);
}

interface Running {
  readonly child: ChildProcess;
  readonly identity: ProcessIdentity;
  /** Reaped: until then its pid is taken, and PostgreSQL would believe its old lock file. */
  readonly reaped: Promise<void>;
}

class Server implements Supervised {
  private running: Running | undefined;
  /** On its way out after stop(). */
  private leaving: Running | undefined;
  private stopping: Promise<void> | undefined;
  private paused = false;
  private ready = false;
  private endedBecause = '';

  constructor(
    private readonly plan: ServerPlan,
    readonly port: number,
  ) {}

  get pid(): number | undefined {
    return this.running?.identity.pid;
  }

  async start(): Promise<void> {
    await this.stopping;
    if (!this.running) this.spawn();
    await this.untilItAnswers();
  }

  stop(): Promise<void> {
    return (this.stopping ??= this.stopOnce().finally(() => {
      this.stopping = undefined;
    }));
  }

  async kill(): Promise<void> {
    // Also in the middle of a stop(), which then finds nothing left to wait for.
    const running = this.running ?? this.leaving;
    this.forget();
    if (!running) return;
    await killTree(running.identity);
    await running.reaped;
    unwatch(running.identity);
  }

  pause(): void {
    this.paused = true;
    for (const pid of this.tree()) sendSignal(pid, 'SIGSTOP');
  }

  resume(): void {
    this.paused = false;
    for (const pid of this.tree()) sendSignal(pid, 'SIGCONT');
  }

  private tree(): number[] {
    return this.pid === undefined ? [] : treeOf(this.pid);
  }

  private async stopOnce(): Promise<void> {
    const { running } = this;
    if (!running) return;
    const { identity, reaped } = running;
    if (this.paused) this.resume();
    this.forget();
    this.leaving = running;
    await endTree(identity, this.plan.stopSignal, this.plan.stopWithinMs ?? 10_000);
    await reaped;
    this.leaving = undefined;
    unwatch(identity);
  }

  private spawn(): void {
    const { command, args, env, uid, gid } = this.plan.launch(this.port);
    const log = openLog(this.plan.folder);
    writeSync(log, `--- ${new Date().toISOString()} ${path.basename(command)} on port ${this.port}\n`);
    const child = spawn(command, args, {
      // A process group of its own: Ctrl-C in the terminal reaches us alone, and we stop the servers in order.
      detached: true,
      // Readable by whatever user the server runs as.
      cwd: '/',
      stdio: ['ignore', log, log],
      env: env ?? process.env,
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
    });
    closeSync(log);
    const { pid } = child;
    const identity = pid === undefined ? undefined : identityOf(pid);
    if (identity) {
      writeNote(this.plan.folder, { port: this.port, process: identity });
      watch(identity, this.plan.stopSignal);
    }
    child.once('error', (error) => this.ended(child, reasonOf(error)));
    child.once('exit', (code, signal) =>
      this.ended(child, signal ? `signal ${signal}` : `exit code ${code}`),
    );
    this.paused = false;
    const reaped = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      // A process that could not be started never exits.
      child.once('error', () => resolve());
    });
    this.running = { child, identity: identity ?? { pid: pid ?? -1, started: 'never' }, reaped };
  }

  /** Called when the process ends by itself; after stop() and kill() it is no news. */
  private ended(child: ChildProcess, how: string): void {
    if (this.running?.child !== child) return;
    unwatch(this.running.identity);
    this.endedBecause = how;
    this.forget();
    if (this.ready) this.plan.report.info(`${this.plan.name} ended by itself (${how}).\n${this.lastLines()}`);
    this.ready = false;
  }

  private forget(): void {
    this.running = undefined;
    this.paused = false;
  }

  private async untilItAnswers(): Promise<void> {
    const { name, signal, readyWithinMs = 60_000 } = this.plan;
    const end = performance.now() + readyWithinMs;
    this.ready = false;
    for (let last: unknown; ; await delay(25)) {
      signal?.throwIfAborted();
      if (!this.running)
        throw new Error(`${name} did not start (${this.endedBecause}).\n${this.lastLines()}`);
      if (performance.now() > end) {
        const waited = `${Math.round(readyWithinMs / 1000)} s`;
        throw new Error(
          `${name} runs but does not answer after ${waited}: ${reasonOf(last)}\n${this.lastLines()}`,
        );
      }
      try {
        await this.plan.answers(this.port);
        this.ready = true;
        return;
      } catch (error) {
        last = error;
      }
    }
  }

  private lastLines(): string {
    const file = logOf(this.plan.folder);
    const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').slice(-15) : [];
    return [`The end of ${file}:`, ...lines.map((line) => `  ${line}`)].join('\n');
  }
}

interface Note {
  readonly port: number;
  readonly process: ProcessIdentity;
}

function readNote(folder: string): Note | undefined {
  const file = path.join(folder, 'server.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Note) : undefined;
}

function writeNote(folder: string, note: Note): void {
  writePrivate(path.join(folder, 'server.json'), JSON.stringify(note));
}

/** Appended to from start to start; beyond 10 MB the old one is put aside, and the one before it is gone. */
function openLog(folder: string): number {
  const file = logOf(folder);
  if (existsSync(file) && statSync(file).size > 10_000_000) renameSync(file, `${file}.old`);
  return openSync(file, 'a', 0o600);
}

function logOf(folder: string): string {
  return path.join(folder, 'server.log');
}
