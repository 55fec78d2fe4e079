// A lock is a file with the identity of its holder, so that a killed holder's lock is free at once.

import { linkSync, mkdirSync, readFileSync, rmdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { identityOf, isAlive, type ProcessIdentity } from './identity.js';
import type { Progress, Report } from './report.js';

export interface Lock {
  release(): void;
}

/** The lock, or the living process that has it. */
export function tryLock(file: string): Lock | ProcessIdentity {
  mkdirSync(path.dirname(file), { recursive: true });
  const me = identityOf(process.pid);
  if (!me) throw new Error('This process cannot find itself in the list of processes.');
  // A link appears whole or not at all, and fails when the name is taken: content and claim in one step.
  const draft = `${file}.${process.pid}.${++drafts}`;
  writeFileSync(draft, JSON.stringify(me));
  try {
    for (;;) {
      if (linked(draft, file)) return { release: () => unlinkIfThere(file) };
      const holder = holderOf(file);
      if (holder && isAlive(holder)) return holder;
      if (holder) removeDead(file);
    }
  } finally {
    unlinkSync(draft);
  }
}
let drafts = 0;

export function isLock(result: Lock | ProcessIdentity): result is Lock {
  return 'release' in result;
}

/** Who has the lock and lives; undefined when it is free. */
export function livingHolder(file: string): ProcessIdentity | undefined {
  const holder = holderOf(file);
  return holder && isAlive(holder) ? holder : undefined;
}

/** Waits for the lock as long as its holder lives, and says so. */
export async function withLock<T>(
  file: string,
  o: { readonly report: Report; readonly signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  let waiting: Progress | undefined;
  for (;;) {
    const result = tryLock(file);
    if (isLock(result)) {
      waiting?.done();
      try {
        return await work();
      } finally {
        result.release();
      }
    }
    waiting ??= o.report.progress(`waiting for process ${result.pid}, which does the same work (${file})`);
    try {
      await delay(100, undefined, o.signal ? { signal: o.signal } : {});
    } catch (error) {
      waiting.failed('given up');
      throw error;
    }
  }
}

/**
 * Two that find the same dead holder must not both remove: the second would remove the first one's new lock.
 * So the removal has a lock of its own, held for microseconds, and looks again once it has it.
 */
function removeDead(file: string): void {
  const guard = `${file}.takeover`;
  try {
    mkdirSync(guard);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    if (olderThan(guard, 5_000)) unlessGone(() => rmdirSync(guard));
    return;
  }
  try {
    const holder = holderOf(file);
    if (holder && !isAlive(holder)) unlinkIfThere(file);
  } finally {
    // Gone where this process stood still for so long that another took its guard for a dead one's.
    unlessGone(() => rmdirSync(guard));
  }
}

function holderOf(file: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ProcessIdentity;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function linked(draft: string, file: string): boolean {
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

const unlinkIfThere = (file: string): void => unlessGone(() => unlinkSync(file));

function unlessGone(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function olderThan(file: string, ms: number): boolean {
  try {
    return Date.now() - statSync(file).mtimeMs > ms;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
