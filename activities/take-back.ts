/**
 * Nobody will undo what an overtaken run of a step made, so it does so itself. While the catalogue, which knows whether it was
 * overtaken, cannot be asked, that is tried again and again, also after the attempt has failed: Temporal tries no step again
 * whose run has gone on without it, or is over.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { isPostgresOutage } from '../catalogue/pool.js';
import type { ActivityDependencies } from './dependencies.js';

/** @param takeBack gives what could not be taken back, and is in the ledger as such */
export async function takenBack(
  { log }: Pick<ActivityDependencies, 'log'>,
  step: string,
  takeBack: () => Promise<readonly unknown[]>,
): Promise<void> {
  const isSettled = async (): Promise<boolean> => {
    const failures = await takeBack().catch((error: unknown) => {
      if (!isPostgresOutage(error)) return [error];
      log.warn({ err: error, step }, 'the catalogue does not say yet whether a step was overtaken');
      return undefined;
    });
    if (failures !== undefined && failures.length > 0)
      log.error({ err: failures[0], step }, 'what an overtaken step made was not taken back');
    return failures !== undefined;
  };
  const again = async (): Promise<void> => {
    for (let pause = 100; ; pause = Math.min(pause * 2, 10_000)) {
      await wait(pause, undefined, { ref: false });
      if (await isSettled()) return;
    }
  };
  if (!(await isSettled())) void again();
}
