/** Calls of Temporal's client that a caller waits for, and no longer than it wants to. */
import { setMaxListeners } from 'node:events';
import type { Client } from '@temporalio/client';

/** Milliseconds after which a call that could not be cancelled, because it was between two tries, ends by itself. */
const MARGIN = 5_000;

/**
 * Runs `work` with a signal of its own, which aborts after so long, and as soon as one of `others` does.
 *
 * `AbortSignal.timeout` and `AbortSignal.any` cannot be let go: each call would be held by the first until its time is up, and
 * each signal by the longest-lived of those in the second.
 */
export async function within<T>(
  milliseconds: number,
  others: readonly AbortSignal[],
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const own = new AbortController();
  const abort = (): void => own.abort();
  const timer = setTimeout(abort, milliseconds);
  for (const other of others) {
    if (other.aborted) abort();
    else {
      // As many as there are callers listen to one that all share.
      setMaxListeners(0, other);
      other.addEventListener('abort', abort);
    }
  }
  try {
    return await work(own.signal);
  } finally {
    clearTimeout(timer);
    for (const other of others) other.removeEventListener('abort', abort);
  }
}

/**
 * The result of the calls in `work`.
 * @param signal of `within`: the client never takes back its listeners
 * @throws the signal's reason as soon as it aborts
 *
 * A deadline alone would not do: the server answers long polls early, and emptily, as it draws near, and the client
 * asks again at once, over and over.
 */
export async function until<T>(
  temporal: Client,
  signal: AbortSignal,
  milliseconds: number,
  work: () => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  // The client adds a listener with each call, and asks anew whenever a long poll comes back empty.
  setMaxListeners(0, signal);
  let giveUp = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    giveUp = () => reject(asError(signal.reason));
  });
  signal.addEventListener('abort', giveUp, { once: true });
  const called = temporal.withDeadline(Date.now() + milliseconds + MARGIN, () =>
    temporal.withAbortSignal(signal, work),
  );
  try {
    return await Promise.race([called, aborted]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)));
