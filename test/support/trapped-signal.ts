/** A real AbortSignal with methods and properties of its own, all of which throw from the `from`th call on. */
export function trappedSignal(from = 1): { signal: AbortSignal; abort: (reason: Error) => void } {
  const controller = new AbortController();
  const { signal } = controller;
  for (const name of ['addEventListener', 'removeEventListener', 'throwIfAborted'] as const) {
    const real = signal[name].bind(signal) as (...given: unknown[]) => void;
    let calls = 0;
    Object.defineProperty(signal, name, {
      value: (...given: unknown[]) => {
        if (++calls >= from) throw new Error(`trapped ${name}`);
        real(...given);
      },
    });
  }
  Object.defineProperty(signal, 'reason', {
    get: () => {
      throw new Error('trapped reason');
    },
  });
  return { signal, abort: (reason) => controller.abort(reason) };
}
