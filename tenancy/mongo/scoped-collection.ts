/**
 * A collection of the tenant's own database. Its own narrow surface over the driver's, which it never hands out: every
 * argument goes through the guard, every result is plain.
 */
import type {
  AbstractCursor,
  AnyBulkWriteOperation,
  ClientSession,
  Collection,
  Document,
  Filter,
  UpdateFilter,
} from 'mongodb';
import type { DocumentId, NewDocument, Storable } from './document-types.js';
import type { Guard } from './guard.js';
import { writes } from './guard.js';
import { NOT_INHERITED, OPTIONS, type OptionTable } from './options.js';
import { elementsOf } from './read-once.js';
import { refused } from './refused.js';
import { type CursorPlan, ScopedCursor } from './scoped-cursor.js';
import { signalOf } from './signal.js';
import type { Statement, StatementRunner } from './statement-runner.js';

/** Of every call. Milliseconds; a write that was given up by `signal` may have happened. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly maxTimeMS?: number | undefined;
  readonly comment?: unknown;
}
interface Targeted extends CallOptions {
  readonly collation?: Document | undefined;
  readonly hint?: string | Document | undefined;
}
interface Sought extends Targeted {
  readonly sort?: Document | undefined;
  readonly projection?: Document | undefined;
  readonly let?: Document | undefined;
}
export interface FindOneOptions extends Sought {
  readonly skip?: number | undefined;
  readonly allowDiskUse?: boolean | undefined;
}
export interface FindOptions extends FindOneOptions {
  readonly limit?: number | undefined;
  readonly batchSize?: number | undefined;
}
export interface UpdateOptions extends Targeted {
  readonly upsert?: boolean | undefined;
  readonly arrayFilters?: readonly Document[] | undefined;
  readonly let?: Document | undefined;
}
export interface UpdateOneOptions extends UpdateOptions {
  readonly sort?: Document | undefined;
}
export interface ReplaceOptions extends Omit<UpdateOneOptions, 'arrayFilters'> {}
export interface DeleteOptions extends Targeted {
  readonly let?: Document | undefined;
}
export interface FindOneAndUpdateOptions extends Sought {
  readonly upsert?: boolean | undefined;
  readonly arrayFilters?: readonly Document[] | undefined;
  readonly returnDocument?: 'before' | 'after' | undefined;
}
export interface FindOneAndReplaceOptions extends Omit<FindOneAndUpdateOptions, 'arrayFilters'> {}
export interface CountOptions extends Targeted {
  readonly limit?: number | undefined;
  readonly skip?: number | undefined;
}
export interface AggregateOptions extends Targeted {
  readonly let?: Document | undefined;
  readonly allowDiskUse?: boolean | undefined;
  readonly batchSize?: number | undefined;
}
export interface BulkOptions extends CallOptions {
  readonly ordered?: boolean | undefined;
  readonly let?: Document | undefined;
}
export interface InsertManyOptions extends CallOptions {
  readonly ordered?: boolean | undefined;
}

export interface UpdateResult {
  readonly matchedCount: number;
  readonly modifiedCount: number;
  readonly upsertedCount: number;
  readonly upsertedId: DocumentId | null;
}
export interface BulkResult {
  readonly insertedCount: number;
  readonly matchedCount: number;
  readonly modifiedCount: number;
  readonly deletedCount: number;
  readonly upsertedCount: number;
  readonly insertedIds: Readonly<Record<number, DocumentId>>;
  readonly upsertedIds: Readonly<Record<number, DocumentId>>;
}
export type Update<T> = UpdateFilter<Storable<T>> | readonly Document[];

/** What a collection works with. None of it is reachable from the collection. */
export interface CollectionParts {
  readonly guard: Guard;
  readonly runner: StatementRunner;
  readonly maxTimeMs: number;
  readonly cursorIdleMs: number;
  readonly loginPatienceMs: number;
}

type Work<R> = (collection: Collection, options: Document) => Promise<R>;

export class ScopedCollection<T extends Document = Document> {
  readonly #name: string;
  readonly #parts: CollectionParts;

  constructor(name: string, parts: CollectionParts) {
    this.#name = name;
    this.#parts = parts;
    Object.freeze(this);
  }

  async findOne(filter: Filter<T>, options?: FindOneOptions): Promise<T | null> {
    const read = this.#parts.guard.filter(filter);
    return this.#read(OPTIONS.findOne, options, async (collection, sent) => {
      const found = await collection.findOne(read, sent);
      return found as unknown as T | null;
    });
  }

  find(filter: Filter<T> = {}, options?: FindOptions): FindCursor<T> {
    const { guard, runner, cursorIdleMs } = this.#parts;
    const read = guard.filter(filter);
    const [statement, sent] = this.#statement(OPTIONS.find, options, false);
    return new FindCursor<T>(guard, runner, sent, (refined) => ({
      statement,
      idleMs: cursorIdleMs,
      open: (collection, session) => collection.find(read, inSession(refined, session, statement.signal)),
    }));
  }

  aggregate<R extends Document = Document>(
    pipeline: readonly Document[],
    options?: AggregateOptions,
  ): ScopedCursor<R> {
    const { guard, runner, cursorIdleMs } = this.#parts;
    const read = guard.pipeline(pipeline);
    const [statement, sent] = this.#statement(OPTIONS.aggregate, options, writes(read));
    return new ScopedCursor<R>(runner, () => ({
      statement,
      idleMs: cursorIdleMs,
      open: (collection, session) =>
        collection.aggregate(read, inSession(sent, session, statement.signal)) as AbstractCursor<Document>,
    }));
  }

  async countDocuments(filter: Filter<T> = {}, options?: CountOptions): Promise<number> {
    const read = this.#parts.guard.filter(filter);
    return this.#read(OPTIONS.countDocuments, options, (collection, sent) =>
      collection.countDocuments(read, sent),
    );
  }

  async estimatedDocumentCount(options?: CallOptions): Promise<number> {
    return this.#read(OPTIONS.estimatedDocumentCount, options, (collection, sent) =>
      collection.estimatedDocumentCount(sent),
    );
  }

  async distinct<K extends Extract<keyof T, string>>(
    field: K,
    filter: Filter<T> = {},
    options?: Targeted,
  ): Promise<T[K][]> {
    const [name, read] = [this.#parts.guard.field(field), this.#parts.guard.filter(filter)];
    return this.#read(OPTIONS.distinct, options, async (collection, sent) => {
      const values: unknown[] = await collection.distinct(name, read, sent);
      return values as T[K][];
    });
  }

  async insertOne(document: NewDocument<T>, options?: CallOptions): Promise<{ insertedId: DocumentId }> {
    const read = this.#parts.guard.document(document);
    return this.#write(OPTIONS.insertOne, options, async (collection, sent) => {
      const { insertedId } = await collection.insertOne(read, sent);
      return { insertedId };
    });
  }

  async insertMany(
    documents: readonly NewDocument<T>[],
    options?: InsertManyOptions,
  ): Promise<{ insertedCount: number; insertedIds: DocumentId[] }> {
    const read = this.#parts.guard.documents(documents);
    return this.#write(OPTIONS.insertMany, options, async (collection, sent) => {
      const { insertedCount, insertedIds } = await collection.insertMany(read, sent);
      return { insertedCount, insertedIds: Object.values<DocumentId>(insertedIds) };
    });
  }

  async updateOne(filter: Filter<T>, update: Update<T>, options?: UpdateOneOptions): Promise<UpdateResult> {
    const [read, change] = [this.#parts.guard.filter(filter), this.#parts.guard.update(update)];
    return this.#write(OPTIONS.updateOne, options, async (collection, sent) =>
      updateResult(await collection.updateOne(read, change, sent)),
    );
  }

  async updateMany(filter: Filter<T>, update: Update<T>, options?: UpdateOptions): Promise<UpdateResult> {
    const [read, change] = [this.#parts.guard.filter(filter), this.#parts.guard.update(update)];
    return this.#write(OPTIONS.updateMany, options, async (collection, sent) =>
      updateResult(await collection.updateMany(read, change, sent)),
    );
  }

  async replaceOne(
    filter: Filter<T>,
    replacement: NewDocument<T>,
    options?: ReplaceOptions,
  ): Promise<UpdateResult> {
    const [read, whole] = [this.#parts.guard.filter(filter), this.#parts.guard.replacement(replacement)];
    return this.#write(OPTIONS.replaceOne, options, async (collection, sent) =>
      updateResult(await collection.replaceOne(read, whole, sent)),
    );
  }

  async deleteOne(filter: Filter<T>, options?: DeleteOptions): Promise<{ deletedCount: number }> {
    const read = this.#parts.guard.filter(filter);
    return this.#write(OPTIONS.delete, options, async (collection, sent) => {
      const { deletedCount } = await collection.deleteOne(read, sent);
      return { deletedCount };
    });
  }

  async deleteMany(filter: Filter<T>, options?: DeleteOptions): Promise<{ deletedCount: number }> {
    const read = this.#parts.guard.filter(filter);
    return this.#write(OPTIONS.delete, options, async (collection, sent) => {
      const { deletedCount } = await collection.deleteMany(read, sent);
      return { deletedCount };
    });
  }

  async findOneAndUpdate(
    filter: Filter<T>,
    update: Update<T>,
    options?: FindOneAndUpdateOptions,
  ): Promise<T | null> {
    const [read, change] = [this.#parts.guard.filter(filter), this.#parts.guard.update(update)];
    return this.#write(OPTIONS.findOneAndUpdate, options, async (collection, sent) => {
      const found = await collection.findOneAndUpdate(read, change, sent);
      return found as unknown as T | null;
    });
  }

  async findOneAndReplace(
    filter: Filter<T>,
    replacement: NewDocument<T>,
    options?: FindOneAndReplaceOptions,
  ): Promise<T | null> {
    const [read, whole] = [this.#parts.guard.filter(filter), this.#parts.guard.replacement(replacement)];
    return this.#write(OPTIONS.findOneAndReplace, options, async (collection, sent) => {
      const found = await collection.findOneAndReplace(read, whole, sent);
      return found as unknown as T | null;
    });
  }

  async findOneAndDelete(filter: Filter<T>, options?: Sought): Promise<T | null> {
    const read = this.#parts.guard.filter(filter);
    return this.#write(OPTIONS.findOneAndDelete, options, async (collection, sent) => {
      const found = await collection.findOneAndDelete(read, sent);
      return found as unknown as T | null;
    });
  }

  /** Writes to this collection. */
  async bulkWrite(operations: readonly BulkOperation<T>[], options?: BulkOptions): Promise<BulkResult> {
    const { guard } = this.#parts;
    if (!Array.isArray(operations)) throw refused('operations come in an array');
    const read = elementsOf(operations).map((operation) => bulkOperation(guard, operation));
    return this.#write(OPTIONS.bulkWrite, options, async (collection, sent) => {
      const result = await collection.bulkWrite(read, sent);
      const { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount } = result;
      const counts = { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount };
      return { ...counts, insertedIds: { ...result.insertedIds }, upsertedIds: { ...result.upsertedIds } };
    });
  }

  #read<R>(table: OptionTable, options: object | undefined, work: Work<R>): Promise<R> {
    return this.#run(table, options, false, work);
  }

  #write<R>(table: OptionTable, options: object | undefined, work: Work<R>): Promise<R> {
    return this.#run(table, options, true, work);
  }

  #run<R>(table: OptionTable, options: object | undefined, write: boolean, work: Work<R>): Promise<R> {
    const [statement, sent] = this.#statement(table, options, write);
    return this.#parts.runner.run(statement, (collection, session) =>
      // Of writes the driver takes no signal: their caller is free at once all the same.
      work(collection, inSession(sent, session, write ? undefined : statement.signal)),
    );
  }

  #statement(table: OptionTable, options: object | undefined, write: boolean): [Statement, Document] {
    const signal = signalOf(options);
    const { guard, maxTimeMs } = this.#parts;
    const sent: Document = { ...NOT_INHERITED, ...(options && guard.options(options, table)) };
    sent['maxTimeMS'] ??= maxTimeMs;
    return [{ collection: this.#name, write, signal }, sent];
  }
}
Object.freeze(ScopedCollection.prototype);

/** A cursor of `find`, which may be refined until it is first read from. */
export class FindCursor<T> extends ScopedCursor<T> {
  readonly #guard: Guard;
  readonly #options: Document;

  constructor(
    guard: Guard,
    runner: StatementRunner,
    options: Document,
    plan: (options: Document) => CursorPlan,
  ) {
    super(runner, () => plan(options));
    this.#guard = guard;
    this.#options = options;
  }

  limit(limit: number): this {
    return this.#refine({ limit });
  }

  skip(skip: number): this {
    return this.#refine({ skip });
  }

  batchSize(batchSize: number): this {
    return this.#refine({ batchSize });
  }

  sort(sort: Document): this {
    return this.#refine({ sort });
  }

  project(projection: Document): this {
    return this.#refine({ projection });
  }

  #refine(options: FindOptions): this {
    if (this.started) throw refused('a cursor that has been read from is not changed');
    Object.assign(this.#options, this.#guard.options(options, OPTIONS.find));
    return this;
  }
}
Object.freeze(FindCursor.prototype);
Object.freeze(ScopedCursor.prototype);

export type BulkOperation<T> =
  | { readonly insertOne: { readonly document: NewDocument<T> } }
  | { readonly updateOne: { readonly filter: Filter<T>; readonly update: Update<T> } & BulkUpdate }
  | { readonly updateMany: { readonly filter: Filter<T>; readonly update: Update<T> } & BulkUpdate }
  | {
      readonly replaceOne: { readonly filter: Filter<T>; readonly replacement: NewDocument<T> } & BulkReplace;
    }
  | { readonly deleteOne: { readonly filter: Filter<T> } & BulkTarget }
  | { readonly deleteMany: { readonly filter: Filter<T> } & BulkTarget };
type BulkTarget = Pick<Targeted, 'collation' | 'hint'>;
type BulkReplace = BulkTarget & Pick<UpdateOneOptions, 'upsert' | 'sort'>;
type BulkUpdate = BulkReplace & Pick<UpdateOptions, 'arrayFilters'>;

/** One operation of a bulk, made anew from the parts that are known. */
function bulkOperation(guard: Guard, operation: unknown): AnyBulkWriteOperation {
  if (typeof operation !== 'object' || operation === null) throw refused('an operation is a document');
  const [entry, ...others] = Object.entries(operation);
  if (entry === undefined || others.length > 0) throw refused('an operation has one name');
  const [name, spec] = entry as [string, unknown];
  if (typeof spec !== 'object' || spec === null) throw refused('an operation is a document');
  const { document, filter, update, replacement, ...rest } = spec as Record<string, unknown>;
  switch (name) {
    case 'insertOne':
      return { insertOne: { document: guard.document(document) } };
    case 'updateOne':
      return {
        updateOne: {
          ...guard.options(rest, OPTIONS.bulkUpdateOne),
          filter: guard.filter(filter),
          update: guard.update(update),
        },
      };
    case 'updateMany':
      return {
        updateMany: {
          ...guard.options(rest, OPTIONS.bulkUpdateMany),
          filter: guard.filter(filter),
          update: guard.update(update),
        },
      };
    case 'replaceOne':
      return {
        replaceOne: {
          ...guard.options(rest, OPTIONS.bulkReplaceOne),
          filter: guard.filter(filter),
          replacement: guard.replacement(replacement),
        },
      };
    case 'deleteOne':
      return { deleteOne: { ...guard.options(rest, OPTIONS.bulkDelete), filter: guard.filter(filter) } };
    case 'deleteMany':
      return { deleteMany: { ...guard.options(rest, OPTIONS.bulkDelete), filter: guard.filter(filter) } };
    default:
      throw refused('an operation that is not taken in a bulk');
  }
}

function updateResult(result: UpdateResult): UpdateResult {
  const { matchedCount, modifiedCount, upsertedCount, upsertedId } = result;
  return { matchedCount, modifiedCount, upsertedCount, upsertedId };
}

const inSession = (
  options: Document,
  session: ClientSession | undefined,
  signal: AbortSignal | undefined,
): Document =>
  session === undefined && signal === undefined
    ? options
    : { ...options, ...(session && { session }), ...(signal && { signal }) };
