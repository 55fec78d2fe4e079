// How a process that is ours is ended: asked first, killed after a bound, and always with its descendants.

import { setTimeout as delay } from 'node:timers/promises';
import { type ProcessIdentity, identityOf, isAlive, sendSignal, treeOf } from './identity.js';

/** Asks the root to leave. Whatever of its tree is still there after `withinMs` is killed. */
export async function endTree(
  root: ProcessIdentity,
  signal: NodeJS.Signals,
  withinMs: number,
): Promise<void> {
  if (!isAlive(root)) return;
  const tree = identities(root);
  // A stopped process takes no signal but SIGKILL until it is continued.
  for (const { pid } of tree) sendSignal(pid, 'SIGCONT');
  sendSignal(root.pid, signal);
  if (!(await goneWithin([root], withinMs))) return killTree(root);
  const left = tree.filter(isAlive);
  for (const { pid } of left) sendSignal(pid, 'SIGKILL');
  await mustGo(left);
}

/** SIGKILL for the root and all its descendants; resolves when they are gone. */
export async function killTree(root: ProcessIdentity): Promise<void> {
  if (!isAlive(root)) return;
  // Stopped first, so that it cannot fork between the counting and the killing.
  sendSignal(root.pid, 'SIGSTOP');
  const tree = identities(root);
  for (const { pid } of tree) sendSignal(pid, 'SIGKILL');
  await mustGo(tree);
}

function identities(root: ProcessIdentity): ProcessIdentity[] {
  return treeOf(root.pid).flatMap((pid) => identityOf(pid) ?? []);
}

async function mustGo(processes: readonly ProcessIdentity[]): Promise<void> {
  if (await goneWithin(processes, 10_000)) return;
  const left = processes.filter(isAlive).map(({ pid }) => pid);
  throw new Error(`Processes ${left.join(', ')} are still there 10 s after SIGKILL.`);
}

async function goneWithin(processes: readonly ProcessIdentity[], ms: number): Promise<boolean> {
  const end = performance.now() + ms;
  while (processes.some(isAlive)) {
    if (performance.now() > end) return false;
    await delay(10);
  }
  return true;
}
