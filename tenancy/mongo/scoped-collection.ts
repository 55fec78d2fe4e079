/**
 * A collection of the tenant's own database. Its own narrow surface over the driver's, which it never hands out: every
 * argument goes through the guard, every result is plain.
 */
import type { AbstractCursor, ClientSession, Collection, Document, Filter } from 'mongodb';
import { type BulkOperation, bulkOperation } from './bulk.js';
import { bulkFailure } from './bulk-failure.js';
import type {
  AggregateOptions,
  BulkOptions,
  BulkResult,
  CallOptions,
  CountOptions,
  DeleteOptions,
  FindOneAndReplaceOptions,
  FindOneAndUpdateOptions,
  FindOneOptions,
  FindOptions,
  InsertManyOptions,
  ReplaceOptions,
  Sought,
  Targeted,
  Update,
  UpdateOneOptions,
  UpdateOptions,
  UpdateResult,
} from './call-types.js';
import type { DocumentId, NewDocument } from './document-types.js';
import { FindCursor } from './find-cursor.js';
import { type Guard, writes } from './guard.js';
import type { Login } from './login.js';
import { NOT_INHERITED, OPTIONS, type OptionTable } from './options.js';
import { elementsOf } from './read-once.js';
import { refused } from './refused.js';
import { ScopedCursor } from './scoped-cursor.js';
import { signalOf } from './signal.js';
import type { Statement, StatementRunner } from './statement-runner.js';

/** What a collection works with. None of it is reachable from the collection. */
export interface CollectionParts {
  readonly guard: Guard;
  readonly runner: StatementRunner;
  readonly maxTimeMs: number;
  readonly cursorIdleMs: number;
  readonly loginPatienceMs: number;
}

type Read<R> = (collection: Collection, options: Document) => Promise<R>;
type Write<R> = (collection: Collection, options: Document, login: Login) => Promise<R>;

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
    return await this.#run(
      OPTIONS.findOne,
      options,
      false,
      (login, sent) => login.findOne(this.#name, read, sent) as Promise<T | null>,
    );
  }

  find(filter: Filter<T> = {}, options?: FindOptions): FindCursor<T> {
    const { guard, runner, cursorIdleMs } = this.#parts;
    const read = guard.filter(filter);
    const [statement, sent] = this.#statement(OPTIONS.find, options, false);
    return new FindCursor<T>(guard, runner, sent, (refined) => ({
      statement,
      idleMs: cursorIdleMs,
      open: (login, session) =>
        login.collection(this.#name).find(read, inSession(refined, session, statement.signal)),
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
      open: (login, session) =>
        login
          .collection(this.#name)
          .aggregate(read, inSession(sent, session, statement.signal)) as AbstractCursor<Document>,
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
      const { insertedCount, insertedIds } = await collection.insertMany(read, sent).catch(failBulk);
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
    return this.#write(OPTIONS.bulkWrite, options, async (collection, sent, login) => {
      // Kinds go one after another: what is left must not need a connection that meets a rotated password.
      if (new Set(read.flatMap(Object.keys)).size > 1) await login.fill();
      const result = await collection.bulkWrite(read, sent).catch(failBulk);
      const { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount } = result;
      const counts = { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount };
      return { ...counts, insertedIds: { ...result.insertedIds }, upsertedIds: { ...result.upsertedIds } };
    });
  }

  #read<R>(table: OptionTable, options: object | undefined, work: Read<R>): Promise<R> {
    return this.#run(table, options, false, (login, sent) => work(login.collection(this.#name), sent));
  }

  #write<R>(table: OptionTable, options: object | undefined, work: Write<R>): Promise<R> {
    return this.#run(table, options, true, (login, sent) => work(login.collection(this.#name), sent, login));
  }

  #run<R>(
    table: OptionTable,
    options: object | undefined,
    write: boolean,
    work: (login: Login, sent: Document) => Promise<R>,
  ): Promise<R> {
    const [statement, sent] = this.#statement(table, options, write);
    return this.#parts.runner.run(statement, (login, session) =>
      // Of writes the driver takes no signal: their caller is free at once all the same.
      work(login, inSession(sent, session, write ? undefined : statement.signal)),
    );
  }

  #statement(table: OptionTable, options: object | undefined, write: boolean): [Statement, Document] {
    const signal = signalOf(options);
    const { guard, maxTimeMs } = this.#parts;
    const sent = { ...NOT_INHERITED, maxTimeMS: maxTimeMs, ...(options && guard.options(options, table)) };
    return [{ write, signal }, sent];
  }
}
Object.freeze(ScopedCollection.prototype);

function updateResult(result: UpdateResult): UpdateResult {
  const { matchedCount, modifiedCount, upsertedCount, upsertedId } = result;
  return { matchedCount, modifiedCount, upsertedCount, upsertedId };
}

function failBulk(error: unknown): never {
  throw bulkFailure(error);
}

const inSession = (
  options: Document,
  session: ClientSession | undefined,
  signal: AbortSignal | undefined,
): Document =>
  session === undefined && signal === undefined
    ? options
    : { ...options, ...(session && { session }), ...(signal && { signal }) };
