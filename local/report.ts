// Where the stack says what it is doing. Callers inject a sink, so that library code never prints.

/** One piece of long work: it was announced when it was made, and ends in exactly one of the two. */
export interface Progress {
  done(note?: string): void;
  failed(note?: string): void;
}

export interface Report {
  info(line: string): void;
  progress(what: string): Progress;
}

/** Plain lines: one when work begins, one every `tickMs` while it lasts, one when it ends. */
export function terminalReport(
  o: { readonly write?: (line: string) => void; readonly tickMs?: number } = {},
): Report {
  const write = o.write ?? ((line: string) => void process.stdout.write(`${line}\n`));
  const tickMs = o.tickMs ?? 10_000;
  return {
    info: (line) => write(line),
    progress(what) {
      const begun = performance.now();
      const elapsed = (digits: number) => `${((performance.now() - begun) / 1000).toFixed(digits)} s`;
      write(`... ${what}`);
      const tick = setInterval(() => write(`    ${what}: ${elapsed(0)}`), tickMs);
      // A forgotten piece of work must not keep the process alive.
      tick.unref();
      const end = (mark: string, note: string | undefined) => {
        clearInterval(tick);
        write(`${mark} ${what} (${elapsed(1)})${note ? `: ${note}` : ''}`);
      };
      return { done: (note) => end('ok ', note), failed: (note) => end('no ', note) };
    },
  };
}

/** For callers that want no output, such as most tests. */
export const silentReport: Report = {
  info: () => undefined,
  progress: () => ({ done: () => undefined, failed: () => undefined }),
};

/** Runs `work` under a progress line, which ends as the work does. */
export async function reported<T>(report: Report, what: string, work: () => Promise<T>): Promise<T> {
  const progress = report.progress(what);
  try {
    const result = await work();
    progress.done();
    return result;
  } catch (error) {
    progress.failed(error instanceof Error ? error.message.split('\n')[0] : String(error));
    throw error;
  }
}
