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
 * Settings that are counted or given to a timer, in milliseconds: what was given, and the default of what was not (`undefined` is
 * as good as not given). Half a connection is none, and one more than was allowed would be opened.
 * @param orNone those of which 0 stands for none, or for never
 * @throws RangeError
 */
export function wholeSettings<D extends Record<string, number>>(
  defaults: D,
  given: object,
  orNone: readonly (keyof D)[] = [],
): D {
  const settings: D = {
    ...defaults,
    ...Object.fromEntries(
      Object.entries(given).filter(([name, value]) => name in defaults && value !== undefined),
    ),
  };
  for (const [name, value] of Object.entries(settings))
    if (value !== 0 || !orNone.includes(name)) refuseOtherThanWhole(name, value);
  return settings;
}

function refuseOtherThanWhole(name: string, value: number): void {
  if (!(Number.isInteger(value) && value > 0 && value <= LONGEST_MS))
    throw new RangeError(`${name} must be a whole number from 1 to ${LONGEST_MS}`);
}
