/**
 * Text, such as from the environment, would be put behind the time as it is now, which makes an end that never comes.
 * @throws RangeError
 */
export function refuseOtherThanPositive(name: string, value: number): void {
  if (!(Number.isFinite(value) && value > 0)) throw new RangeError(`${name} must be a number above 0`);
}

/** Beyond it a timer runs out at once, and MongoDB takes no time-out. */
const LONGEST_MS = 2 ** 31 - 1;

/**
 * The same of what is counted or given to a timer, in milliseconds: half a connection is none, and one more than was allowed
 * would be opened.
 * @throws RangeError
 */
export function refuseOtherThanWhole(name: string, value: number): void {
  if (!(Number.isInteger(value) && value > 0 && value <= LONGEST_MS))
    throw new RangeError(`${name} must be a whole number from 1 to ${LONGEST_MS}`);
}

/**
 * The same where 0 stands for none, or for never.
 * @throws RangeError
 */
export function refuseOtherThanWholeOrNone(name: string, value: number): void {
  if (value !== 0) refuseOtherThanWhole(name, value);
}

/** What was given, and the default of what was not: `undefined` is as good as not given. */
export function withDefaults<D extends object>(defaults: D, given: object): D {
  return {
    ...defaults,
    ...Object.fromEntries(
      Object.entries(given).filter(([name, value]) => name in defaults && value !== undefined),
    ),
  };
}
