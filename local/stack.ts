// The four servers together: prepared and started side by side, stopped in order.

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { SEARCH_ATTRIBUTES } from '../domain/search-attributes.js';
import { isLock, livingHolder, tryLock } from './lock.js';
import { type MongoServer, startMongo } from './mongo.js';
import { startPostgres } from './postgres.js';
import { startRedis } from './redis.js';
import type { Report } from './report.js';
import { reasonOf } from './reason.js';
import type { RunningServer } from './server.js';
import { startTemporal } from './temporal.js';

export interface StackOptions {
  /** Made when it is not there; one stack at a time. */
  readonly dataDir: string;
  /** true: Temporal keeps its histories too. The stores keep what they acknowledged in any case. */
  readonly persistent: boolean;
  readonly report: Report;
  readonly env?: NodeJS.ProcessEnv;
  /** Gives up; what was started by then is stopped before startStack rejects. */
  readonly signal?: AbortSignal;
  /** false, and not persistent: PostgreSQL does not wait for the disk. Default true. */
  readonly durable?: boolean;
}

export interface Stack {
  readonly postgres: RunningServer;
  readonly mongo: MongoServer;
  readonly redis: RunningServer;
  readonly temporal: RunningServer;
  readonly temporalUiUrl: string | undefined;
  stop(): Promise<void>;
}

/** As the dev server takes them at its start, before any worker could register them. */
export const searchAttributes: Readonly<Record<string, 'Keyword'>> = Object.fromEntries(
  SEARCH_ATTRIBUTES.map((name) => [name, 'Keyword' as const]),
);

export class StackInUseError extends Error {
  override readonly name = 'StackInUseError';
}

export async function startStack(o: StackOptions): Promise<Stack> {
  const dataDir = path.resolve(o.dataDir);
  mkdirSync(dataDir, { recursive: true });
  const lock = tryLock(lockOf(dataDir));
  if (!isLock(lock)) throw inUse(dataDir, lock.pid);

  const failed = new AbortController();
  const signal = o.signal ? AbortSignal.any([failed.signal, o.signal]) : failed.signal;
  const common = { ...o, dataDir, signal };
  const starts = [
    startPostgres({ ...common, durable: o.persistent || o.durable !== false }),
    startMongo(common),
    startRedis(common),
    startTemporal({ ...common, ui: o.persistent, searchAttributes }),
  ] as const;
  for (const start of starts)
    start.catch(() => setTimeout(() => failed.abort(new GivenUp()), graceMs).unref());
  const settled = await Promise.allSettled(starts);

  const stop = once(async () => {
    // Temporal first: its workflows call the stores.
    const [postgres, mongo, redis, temporal] = settled.map((one) =>
      one.status === 'fulfilled' ? one.value : undefined,
    );
    const first = await Promise.allSettled([temporal?.stop()]);
    const rest = await Promise.allSettled([postgres?.stop(), mongo?.stop(), redis?.stop()]);
    lock.release();
    throwAll([...first, ...rest]);
  });
  const [postgres, mongo, redis, temporal] = settled;
  if (
    postgres.status === 'fulfilled' &&
    mongo.status === 'fulfilled' &&
    redis.status === 'fulfilled' &&
    temporal.status === 'fulfilled'
  ) {
    return {
      postgres: postgres.value,
      mongo: mongo.value,
      redis: redis.value,
      temporal: temporal.value,
      temporalUiUrl: temporal.value.uiUrl,
      stop,
    };
  }
  await stop();
  o.signal?.throwIfAborted();
  throwAll(settled);
  throw new Error('unreachable: a server failed, and throwAll throws its error');
}

/** The process that runs a stack in this folder now. */
export function stackHolder(dataDir: string): number | undefined {
  return livingHolder(lockOf(path.resolve(dataDir)))?.pid;
}

function lockOf(dataDir: string): string {
  return path.join(dataDir, 'stack.lock');
}

function inUse(dataDir: string, pid: number): StackInUseError {
  return new StackInUseError(
    `Process ${pid} already runs a stack in ${dataDir}. One at a time.\nTo mend it: kill ${pid} (or use that one)`,
  );
}

/** A moment for the others to fail too, so that one run tells all that is missing. */
const graceMs = 500;

/** Why the others were aborted; not worth telling beside the failure itself. */
class GivenUp extends Error {
  override readonly message = 'another server could not be started';
}

function throwAll(settled: readonly PromiseSettledResult<unknown>[]): void {
  const errors = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const told = errors.filter((error) => !(error instanceof GivenUp));
  const first = told[0] ?? errors[0];
  if (first === undefined) return;
  if (told.length <= 1) throw first;
  throw new AggregateError(told, told.map(reasonOf).join('\n\n'));
}

function once(work: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined;
  return () => (result ??= work());
}
