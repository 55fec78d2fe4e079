/**
 * Which of the product's statements a connection has prepared: those that came a second time, at most so many, the
 * least recently used going first. A statement that is just being prepared is not relied on until the server said so.
 */
import pg from 'pg';
import type { Field } from './wire.js';

/** What a statement returns; no fields where it returns no rows. All results of it share them. */
export interface Columns {
  readonly fields: readonly Field[];
  /** A row before its values are there. */
  readonly emptyRow: Readonly<Record<string, null>>;
}

export interface Prepared {
  /** Never used again after it failed, so that it cannot meet what is left of it. */
  readonly name: string;
  readonly text: string;
  state: 'parsing' | 'ready';
  /** Once the server has described them. It refuses a plan that would return others (0A000), so they stay as they are. */
  columns?: Columns;
}

/** Of a text that is kept. Longer ones hold their values, as a rule, and never come again. */
const LONGEST = 16_384;

export class PreparedStatements {
  readonly #limit: number;
  /** The server is the same for all statements, and so what it said of one holds for as long as that stays prepared. */
  readonly #direct: boolean;
  readonly #known = new Map<string, Prepared>();
  /** Seen once. */
  #seen = new Set<string>();
  #dropped: string[] = [];
  #counter = 0;

  constructor(limit: number, direct: boolean) {
    this.#limit = limit;
    this.#direct = direct;
  }

  /** How to send a statement now: `ready` without Parse, `parsing` with one under its name, undefined without a name. */
  use(text: string): Prepared | undefined {
    const known = this.#known.get(text);
    if (known !== undefined) {
      if (known.state === 'parsing') return undefined;
      this.#known.delete(text);
      this.#known.set(text, known);
      return known;
    }
    if (text.length > LONGEST) return undefined;
    if (!this.#seen.delete(text)) {
      // Texts with literals in them never come again: they pass through here and nowhere else.
      if (this.#seen.size >= this.#limit * 4) this.#seen = new Set();
      this.#seen.add(text);
      return undefined;
    }
    const prepared: Prepared = { name: `t${++this.#counter}`, text, state: 'parsing' };
    this.#known.set(text, prepared);
    this.#evict();
    return prepared;
  }

  /** The server has said what it returns. A pooler's next server may have prepared it after its table was changed. */
  described(prepared: Prepared, fields: readonly Field[]): void {
    if (!this.#direct) return;
    const emptyRow = Object.create(null) as Record<string, null>;
    for (const { name } of fields) emptyRow[name] = null;
    // Frozen: whoever writes to a result's fields would write to everybody's.
    prepared.columns = {
      fields: fields.map((field) => Object.freeze(field)),
      emptyRow: Object.freeze({ ...emptyRow }),
    };
  }

  /** A statement failed: a name that was never prepared is forgotten, a plan that no longer fits is given up. */
  failed(prepared: Prepared | undefined, error: Error): void {
    if (prepared === undefined) return;
    const isReady = prepared.state === 'ready';
    const isStale = isReady && (isStalePlan(error) || isOfParameters(error));
    if (isStale) stale.add(error);
    // Another one that was under way may have said so before.
    if (this.#known.get(prepared.text) !== prepared) return;
    if (isStale) this.#drop(prepared);
    else if (!isReady) this.#known.delete(prepared.text);
  }

  /** Names to be closed with the next group. */
  takeDropped(): readonly string[] {
    if (this.#dropped.length === 0) return this.#dropped;
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  #evict(): void {
    if (this.#known.size <= this.#limit) return;
    for (const candidate of this.#known.values()) {
      if (candidate.state === 'ready') return this.#drop(candidate);
    }
  }

  #drop(prepared: Prepared): void {
    this.#known.delete(prepared.text);
    this.#dropped.push(prepared.name);
  }
}

/**
 * What was prepared no longer fits; nothing has run, and sent whole it may. A table changed its columns (0A000), or the
 * pooler lost the statement (26000) or lost count of it (42P05, PgBouncer after an error while it made room for others),
 * or a column changed its type.
 */
export const isStalePlan = (error: unknown): boolean =>
  error instanceof pg.DatabaseError &&
  (stale.has(error) ||
    (error.code === '0A000' && /cached plan/.test(error.message)) ||
    /^(26000|42P05)$/.test(error.code ?? ''));

/** Errors of statements that had been prepared, by which alone it cannot be told. */
const stale = new WeakSet<Error>();

/**
 * A statement's parameters keep the types that they had when it was prepared: a value is not one of these (`where` names
 * it: `portal parameter $1`), or the server knows no operator for them, or no way to the column's type. It may be the
 * value that is wrong, which the next try says again.
 */
const isOfParameters = (error: Error): boolean =>
  error instanceof pg.DatabaseError &&
  (/^(42883|42804|42846)$/.test(error.code ?? '') ||
    (error.code?.startsWith('22') === true && /\$\d/.test(error.where ?? '')));
