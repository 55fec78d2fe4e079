/** Signals: those in a caller's options, and what ends by one. */
import { isSignal, whenAborted } from '../signal.js';
import { refused } from './refused.js';

/** @throws TenantryError STATEMENT_REFUSED of what is none */
export function signalOf(options: object | null | undefined): AbortSignal | undefined {
  const signal: unknown = options && 'signal' in options ? options.signal : undefined;
  if (signal === undefined) return undefined;
  if (!isSignal(signal)) throw refused('a signal that is none');
  return signal;
}

/** As `work` ends, or with the signal's reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let stopListening = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stopListening = whenAborted(signal, reject);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    stopListening();
  }
}
