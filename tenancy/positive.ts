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
