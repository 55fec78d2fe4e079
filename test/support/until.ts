/** Waits for a condition that no event tells, by asking again and again, with a bound. */
import { setTimeout as pause } from 'node:timers/promises';

const EVERY = 25;

/**
 * @param what the condition in words, for the failure
 * @param ask a falsy answer means not yet
 * @param within milliseconds
 */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  within = 40_000,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + within;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== null && answer !== false)
      return answer as Exclude<T, false | null | undefined>;
    if (performance.now() > end) throw new Error(`after ${within} ms it is still not so that ${what}`);
    await pause(EVERY);
  }
}
