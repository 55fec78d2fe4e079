/** Signals: those in a caller's options, and what ends by one. */
import { refused } from './refused.js';

/** A real one: what only looks like a signal, or inherits from the real ones' prototype, would be called by the driver. */
export function signalOf(options: object | null | undefined): AbortSignal | undefined {
  const signal: unknown = options && 'signal' in options ? options.signal : undefined;
  if (signal === undefined) return undefined;
  if (!(signal instanceof AbortSignal) || !isReal(signal)) throw refused('a signal that is none');
  return signal;
}

const aborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')?.get;

/** The platform's own getter throws on what is none. */
function isReal(signal: AbortSignal): boolean {
  try {
    return typeof aborted?.call(signal) === 'boolean';
  } catch {
    return false;
  }
}

/** As `work` ends, or with the signal's reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
