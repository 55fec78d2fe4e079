/**
 * What a connection sends: groups that end in one Sync, and statements of ours that it prepares beforehand. Queries of
 * node-postgres, which reads their answers, with another way to write them.
 */
import type pg from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { Columns, Prepared, PreparedStatements } from './prepared.js';
import { type Field, groupBytes, type Parameter, type Step, type Wire, WireQuery } from './wire.js';

/** A statement of the product's, as it is sent. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly Parameter[] | undefined;
  readonly rowMode?: 'array' | undefined;
  readonly types?: pg.CustomTypesConfig | undefined;
}

/** What goes ahead, the product's statement if there is one, and Sync. */
export class Group extends WireQuery {
  readonly #send: (whole: Buffer) => void;
  readonly #bytes: Buffer;
  readonly #cache: PreparedStatements | undefined;
  #bytesLeft: number;
  #ahead: number;
  /** As the server described them just now. */
  #fields: readonly Field[] | undefined;
  /** As they were known when it was sent, without a Describe; until the answer begins. */
  #known: Columns | undefined;
  readonly prepared: Prepared | undefined;

  /** @throws what comes of writing it; then nothing is sent, and nobody waits for an answer */
  constructor(
    send: (whole: Buffer) => void,
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
    this.#send = send;
    this.#cache = cache;
    this.#bytesLeft = maxResultBytes;
    this.#ahead = ahead.length;
    this.prepared = statement && cache?.use(statement.text);
    this.#known = this.prepared?.columns;
    const own = statement && {
      text: this.prepared?.state === 'ready' ? undefined : text,
      name: this.prepared?.name,
      values: statement.values ?? [],
      known: this.#known !== undefined,
    };
    try {
      this.#bytes = groupBytes({ dropped: cache?.takeDropped() ?? [], ahead, own });
    } catch (error) {
      cache?.failed(this.prepared, error as Error);
      throw error;
    }
  }

  /** What goes ahead is not done. */
  get entering(): boolean {
    return this.#ahead > 0;
  }

  override requiresPreparation(): boolean {
    return true;
  }

  override prepare(): void {
    this.#send(this.#bytes);
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
    if (this.#bytesLeft < 0) this.tooMuch();
    super.handleDataRow(message);
  }

  /** From here on its rows are not kept. */
  tooMuch(): void {
    if (this._canceledDueToError !== false) return;
    this._canceledDueToError = new TenantryError('STORE_REFUSED', {
      store: 'PostgreSQL',
      reason: 'its rows are more than may be held in memory',
    });
    this._result.rows.length = 0;
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
