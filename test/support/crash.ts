/** Runs a worker process that dies at points. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { CRASH_PLAN, type CrashPlan, STOPPING } from './crash-worker.js';
import { signal } from './holds.js';
import type { World } from './world.js';

const PROGRAM = join(__dirname, '..', '..', 'dist', 'test', 'support', 'crash-worker.js');

export interface CrashingWorker {
  /** Resolves when it was killed; rejects with what it said when it ended in another way, or not in time. */
  readonly killed: Promise<void>;
  /** Resolves when every run has come to its point, and it has been stopped. */
  readonly stopped: Promise<void>;
  /** One that was stopped goes on, and is told to end; resolves when it has. */
  goOnAndEnd(): Promise<void>;
  /** Resolves when it takes work, whether or not its cells are prepared. */
  readonly polling: Promise<void>;
  /** Ends it if it still runs. */
  end(): void;
}

export function startCrashingWorker(
  world: World,
  points: CrashPlan['points'],
  { stops = false } = {},
): CrashingWorker {
  const plan: CrashPlan = { points, bundlePath: world.stack.bundlePath, stops };
  const child = spawn(process.execPath, [PROGRAM], {
    env: {
      ...process.env,
      ...world.env,
      TENANTRY_LOG_LEVEL: 'info',
      [CRASH_PLAN]: JSON.stringify(plan),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const polls = signal();
  const stopping = signal();
  let said = '';
  const hear = (text: Buffer): void => {
    said = `${said}${text.toString()}`.slice(-8_000);
    if (said.includes('"msg":"polling"')) polls.give();
    if (said.includes(STOPPING)) stopping.give();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const killed = new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`not every run came to its point\n${said}`)), 90_000);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(late);
      if (signal === 'SIGKILL') resolve();
      else reject(new Error(`the worker ended with ${signal ?? code}\n${said}`));
    });
  });
  // Of one that is to be stopped nobody waits for that.
  killed.catch(() => undefined);
  return {
    killed,
    stopped: Promise.race([stopping.given, killed]),
    async goOnAndEnd() {
      const ended = once(child, 'close');
      child.kill('SIGCONT');
      child.kill('SIGTERM');
      await ended;
    },
    polling: polls.given,
    end: () => void child.kill('SIGKILL'),
  };
}
