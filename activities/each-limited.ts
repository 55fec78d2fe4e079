/** Runs work on each item, a bounded number at once, and gives the results in the items' order. */
export async function eachLimited<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<PromiseSettledResult<R>[]> {
  const results: PromiseSettledResult<R>[] = Array.from({ length: items.length });
  const queue = items.entries();
  // The lanes share one iterator, so each takes the next item that nobody has.
  const lane = async (): Promise<void> => {
    for (const [index, item] of queue) {
      [results[index]] = (await Promise.allSettled([work(item)])) as [PromiseSettledResult<R>];
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  return results;
}
