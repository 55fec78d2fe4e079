/**
 * `Promise.all` that comes back only when none of the work is going on any more: what the caller does after a failure
 * (close a connection, undo) must not meet the rest of it half-way.
 * @param worst which of the rejections, in the order of the list, is thrown; the first by default
 */
export async function settled<T extends readonly unknown[]>(
  work: readonly [...{ [K in keyof T]: Promise<T[K]> }],
  worst: (reasons: readonly unknown[]) => unknown = ([first]) => first,
): Promise<T> {
  const results = await Promise.allSettled(work as readonly Promise<unknown>[]);
  const reasons = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  if (reasons.length > 0) throw worst(reasons);
  // None was rejected, so each has a value, in the order of the list.
  return results.map((result) => ('value' in result ? result.value : undefined)) as unknown as T;
}
