/**
 * What is under way on a client, with a bound on its time. The driver has bounds of its own and keeps them but for one
 * case (mongodb 7.9): a statement that is handed a connection between the socket's end and its 'close' waits for ever for
 * a 'drain', and keeps its place in the driver's pool.
 */
export class UnderWay {
  readonly #entries = new Set<Entry>();

  /** As `work` ends, unless it is given up before. */
  bound<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const entry = { since: performance.now(), giveUp: reject };
      this.#entries.add(entry);
      work.then(
        (result) => {
          this.#entries.delete(entry);
          resolve(result);
        },
        (error: unknown) => {
          this.#entries.delete(entry);
          reject(error);
        },
      );
    });
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  /** Whether anything was given up: all that began before `time`, as performance.now() has it. */
  giveUpBefore(time: number, reason: () => Error): boolean {
    let some = false;
    // The oldest come first.
    for (const entry of this.#entries) {
      if (entry.since >= time) break;
      this.#entries.delete(entry);
      entry.giveUp(reason());
      some = true;
    }
    return some;
  }
}

interface Entry {
  readonly since: number;
  readonly giveUp: (reason: Error) => void;
}
