/**
 * A run of a step that was overtaken takes back what it made, because nobody else will. Only the catalogue knows whether it was
 * overtaken. While the catalogue is away this is tried again and again, even after the attempt has failed: Temporal does not
 * retry a step whose run has gone on without it or is over.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { isPostgresOutage } from '../catalogue/pool.js';
import type { ActivityDependencies } from './dependencies.js';

/** @param takeBack resolves to the failures to take something back, which are in the ledger; rejects if the catalogue is away */
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
