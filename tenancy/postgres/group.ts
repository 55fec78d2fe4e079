/**
 * What a connection sends: groups that end in one Sync, and statements of ours that it prepares beforehand. Queries of
 * node-postgres, which reads their answers, with another way to write them.
 */
import type pg from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { Columns, Prepared, PreparedStatements } from './prepared.js';
import {
  type Field,
  type Parameter,
  preparedGroup,
  type Step,
  stepBytes,
  type Wire,
  WireQuery,
} from './wire.js';

/** A statement of the product's, as it is sent. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly Parameter[] | undefined;
  readonly rowMode?: 'array' | undefined;
  readonly types?: pg.CustomTypesConfig | undefined;
}

/** Where groups go that are one buffer. What is written in another way comes after a flush. */
export interface Out {
  push(whole: Buffer): void;
  flush(): void;
}

/** What goes ahead, the product's statement if there is one, and Sync. */
export class Group extends WireQuery {
  readonly #out: Out;
  readonly #steps: readonly Step[];
  readonly #statement: Statement | undefined;
  readonly #values: readonly Parameter[];
  readonly #cache: PreparedStatements | undefined;
  #bytesLeft: number;
  #ahead: number;
  /** As the server described them just now. */
  #fields: readonly Field[] | undefined;
  /** As they were known when it was sent, without a Describe; until the answer begins. */
  #known: Columns | undefined;
  prepared: Prepared | undefined;

  constructor(
    out: Out,
    ahead: readonly Step[],
    statement: Statement | undefined,
    cache: PreparedStatements | undefined,
    maxResultBytes: number,
    callback: (error: Error | null | undefined, result: pg.QueryResult) => void,
  ) {
    const { text = '', rowMode, types } = statement ?? {};
    // Of an object it makes a copy, property by property, which costs more than all else here.
    super(
      rowMode === undefined && types === undefined ? text : { text, rowMode, types },
      undefined,
      callback,
    );
    this.#out = out;
    this.#steps = ahead;
    this.#statement = statement;
    this.#values = statement?.values ?? [];
    this.#cache = cache;
    this.#bytesLeft = maxResultBytes;
    this.#ahead = ahead.length;
  }

  /** What goes ahead is not done. */
  get entering(): boolean {
    return this.#ahead > 0;
  }

  override requiresPreparation(): boolean {
    return true;
  }

  override prepare(wire: Wire): void {
    const dropped = this.#cache?.takeDropped() ?? [];
    if (dropped.length > 0) this.#out.flush();
    // First: after an error in the group the server would not read it.
    for (const name of dropped) wire.close({ type: 'S', name });
    if (this.#statement !== undefined) this.prepared = this.#cache?.use(this.#statement.text);
    if (this.prepared?.state === 'ready') {
      this.#known = this.prepared.columns;
      const { name } = this.prepared;
      this.#out.push(preparedGroup(this.#steps, { name, values: this.#values }, this.#known !== undefined));
      return;
    }
    this.#out.flush();
    if (this.#steps.length > 0) wire.stream.write(stepBytes(this.#steps));
    if (this.#statement !== undefined) {
      const { text } = this.#statement;
      wire.parse({ text, name: this.prepared?.name ?? '' });
      wire.bind({ portal: '', statement: this.prepared?.name ?? '', values: this.#values });
      wire.describe({ type: 'P', name: '' });
      wire.execute({ portal: '' });
    }
    wire.sync();
  }

  /** ParseComplete has come. What goes ahead may have had its own, without a name. */
  parsed(): void {
    if (this.#ahead === 0 && this.prepared !== undefined) this.prepared.state = 'ready';
  }

  override handleRowDescription(message: { readonly fields: readonly Field[] }): void {
    this.#fields = message.fields;
    this.#asItsOwn(() => super.handleRowDescription(message));
  }

  override handleDataRow(message: { readonly length: number }): void {
    if (this.#ahead > 0) return;
    this.#begin();
    this.#bytesLeft -= message.length;
    if (this.#bytesLeft < 0 && this._canceledDueToError === false) {
      this._canceledDueToError = new TenantryError('STORE_REFUSED', {
        store: 'PostgreSQL',
        reason: 'its rows are more than may be held in memory',
      });
      this._result.rows.length = 0;
    }
    super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, wire: Wire): void {
    if (this.#ahead > 0) {
      this.#ahead -= 1;
      return;
    }
    this.#begin();
    super.handleCommandComplete(message, wire);
    if (this.prepared !== undefined && this.prepared.columns === undefined)
      this.#cache?.described(this.prepared, this.#fields ?? []);
  }

  /** In the place of a RowDescription. Now and not before: the caller's `types` are asked as no tenant. */
  #begin(): void {
    const known = this.#known;
    this.#known = undefined;
    if (known === undefined || known.fields.length === 0) return;
    this.#asItsOwn(() => {
      const result = this._result;
      result.fields = [...known.fields];
      result._parsers = known.fields.map(({ dataTypeID, format }) =>
        result._types.getTypeParser(dataTypeID, format),
      );
      result._prebuiltEmptyResultObject = known.emptyRow;
      this._accumulateRows = true;
    });
  }

  /** What the caller's own `types` throw is this statement's failure, and nobody else's. */
  #asItsOwn(read: () => void): void {
    try {
      read();
    } catch (error) {
      this._canceledDueToError = error;
    }
  }
}

export class Preparation extends WireQuery {
  readonly #name: string;
  readonly #text: string;

  constructor(name: string, text: string, callback: (error: Error | null | undefined) => void) {
    super({ text }, undefined, callback);
    this.#name = name;
    this.#text = text;
  }
  override requiresPreparation(): boolean {
    return true;
  }
  override prepare(wire: Wire): void {
    wire.parse({ text: this.#text, name: this.#name });
    wire.sync();
  }
}
