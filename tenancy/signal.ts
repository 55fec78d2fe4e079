/** Signals as callers hand them over. */

const aborted = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')?.get;

/** What only looks like a signal, or inherits from the real ones' prototype, would be called, and might throw, anywhere. */
export function isSignal(value: unknown): value is AbortSignal {
  if (!(value instanceof AbortSignal)) return false;
  try {
    // The platform's own getter throws on what is none.
    return typeof aborted?.call(value) === 'boolean';
  } catch {
    return false;
  }
}
