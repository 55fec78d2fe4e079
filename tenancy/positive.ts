/**
 * Text, such as from the environment, would be put behind the time as it is now, which makes an end that never comes.
 * @throws RangeError
 */
export function refuseOtherThanPositive(name: string, value: number): void {
  if (!(Number.isFinite(value) && value > 0)) throw new RangeError(`${name} must be a number above 0`);
}
