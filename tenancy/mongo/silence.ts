/** Notices that work which ought to ask for something now and then has gone silent. */
export class Silence {
  readonly #afterMs: number;
  readonly #reason: () => Error;
  #underWay = 0;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #giveUp: (reason: Error) => void = () => undefined;

  constructor(afterMs: number, reason: () => Error) {
    this.#afterMs = afterMs;
    this.#reason = reason;
  }

  /** As `work` ends, or with the reason when nothing was under way for so long. */
  async ends<T>(work: () => Promise<T>): Promise<T> {
    const silent = new Promise<never>((_, reject) => (this.#giveUp = reject));
    this.#begin();
    try {
      return await Promise.race([work(), silent]);
    } finally {
      this.#over = true;
      clearTimeout(this.#timer);
    }
  }

  /** What is under way is no silence. */
  async during<T>(asked: Promise<T>): Promise<T> {
    this.#underWay++;
    clearTimeout(this.#timer);
    try {
      return await asked;
    } finally {
      this.#underWay--;
      this.#begin();
    }
  }

  #begin(): void {
    clearTimeout(this.#timer);
    if (this.#underWay === 0 && !this.#over)
      this.#timer = setTimeout(() => this.#giveUp(this.#reason()), this.#afterMs).unref();
  }
}
