/**
 * Signals as callers hand them over. One of the platform's may carry methods and properties of its own, which would be
 * called, and might throw, anywhere: so it is read and listened to by the platform's own ways alone.
 */

const aborted = getterOf('aborted');
const reason = getterOf('reason');
const { addEventListener, removeEventListener } = EventTarget.prototype;

/** What only looks like a signal, or inherits from the real ones' prototype, is none. */
export function isSignal(value: unknown): value is AbortSignal {
  if (!(value instanceof AbortSignal)) return false;
  try {
    // The platform's own getter throws on what is none.
    return typeof aborted.call(value) === 'boolean';
  } catch {
    return false;
  }
}

export const isAborted = (signal: AbortSignal | undefined): boolean =>
  signal !== undefined && aborted.call(signal) === true;

export const reasonOf = (signal: AbortSignal | undefined): unknown =>
  signal === undefined ? undefined : reason.call(signal);

/** @throws the signal's reason */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (isAborted(signal)) throw reasonOf(signal);
}

/**
 * Calls `act` with the reason once the signal is aborted, at once where it is already.
 * @returns what is to be called when nobody cares any more
 */
export function whenAborted(signal: AbortSignal | undefined, act: (reason: unknown) => void): () => void {
  if (signal === undefined) return () => undefined;
  const heard = (): void => act(reasonOf(signal));
  if (isAborted(signal)) heard();
  else addEventListener.call(signal, 'abort', heard, { once: true });
  return () => removeEventListener.call(signal, 'abort', heard);
}

/**
 * `work`, or the signal's reason as soon as it is aborted and `cancel` could still cancel it; the work's own end is
 * ignored then. A COMMIT under way is waited for: its answer is the truth.
 */
export function untilAborted<T>(
  signal: AbortSignal | undefined,
  work: Promise<T>,
  cancel: () => boolean,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const stopListening = whenAborted(signal, (reason) => {
      if (cancel()) reject(reason);
    });
    work.then(resolve, reject).finally(stopListening);
  });
}

function getterOf(name: 'aborted' | 'reason'): (this: AbortSignal) => unknown {
  const getter = Object.getOwnPropertyDescriptor(AbortSignal.prototype, name)?.get;
  if (getter === undefined) throw new TypeError(`AbortSignal has no ${name}`);
  return getter;
}
