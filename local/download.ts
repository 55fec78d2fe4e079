// A download with bounds: on how long it may take to begin, and on how long it may stand still.

import { createWriteStream, rmSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { reasonOf } from './reason.js';

/** Writes the body of `url` to `file`; leaves no file behind when it fails. */
export async function download(
  url: string,
  file: string,
  o: {
    /** Until the first byte of the body. Default 5 s. */
    readonly beginWithinMs?: number;
    /** Between two bytes. Default 30 s. */
    readonly stallMs?: number;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Promise<void> {
  const { beginWithinMs = 5_000, stallMs = 30_000 } = o;
  const bound = new AbortController();
  const after = (ms: number, what: string) =>
    setTimeout(() => bound.abort(new Error(`${new URL(url).host} ${what} ${ms / 1000} s`)), ms);
  let timer = after(beginWithinMs, 'did not begin to send within');
  const signal = o.signal ? AbortSignal.any([bound.signal, o.signal]) : bound.signal;
  try {
    const response = await fetch(url, { signal });
    if (!response.ok || !response.body) throw new Error(`${url} answers ${response.status}`);
    const watched = async function* (body: AsyncIterable<Uint8Array>) {
      for await (const chunk of body) {
        clearTimeout(timer);
        timer = after(stallMs, 'stopped sending for');
        yield chunk;
      }
    };
    await pipeline(Readable.fromWeb(response.body), watched, createWriteStream(file), { signal });
  } catch (error) {
    rmSync(file, { force: true });
    if (signal.aborted) throw signal.reason;
    // fetch says only "fetch failed"; the reason is in the cause.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new Error(`${new URL(url).host}: ${reasonOf(cause)}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
