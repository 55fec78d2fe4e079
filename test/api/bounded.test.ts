/** How long a piece of work may go on, and what is left of it afterwards: nothing. */
import { getEventListeners, once } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import { within } from '../../api/bounded.js';

const LONG = 60_000;
const aborted = async (signal: AbortSignal): Promise<string> => {
  if (!signal.aborted) await once(signal, 'abort');
  return 'aborted';
};

describe('within', () => {
  it('ends the work when its time is up', async () => {
    expect(await within(1, [], aborted)).toBe('aborted');
  });

  it('ends it with any of the others, and with one that has ended already', async () => {
    const [one, other] = [new AbortController(), new AbortController()];
    const ended = within(LONG, [one.signal, other.signal], aborted);
    other.abort();
    expect(await ended).toBe('aborted');
    expect(await within(LONG, [one.signal, other.signal], aborted)).toBe('aborted');
  });

  it('leaves nothing on the others, however it ends, and its signal alone from then on', async () => {
    const other = new AbortController();
    let signal: AbortSignal | undefined;
    const work = within(LONG, [other.signal], (own) => {
      signal = own;
      expect(getEventListeners(other.signal, 'abort')).toHaveLength(1);
      return Promise.resolve('done');
    });
    expect(await work).toBe('done');
    await expect(within(LONG, [other.signal], () => Promise.reject(new Error('failed')))).rejects.toThrow(
      'failed',
    );
    expect(getEventListeners(other.signal, 'abort')).toEqual([]);
    other.abort();
    expect(signal?.aborted).toBe(false);
  });
});
