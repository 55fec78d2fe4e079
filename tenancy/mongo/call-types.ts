/** What the methods of a collection take and return. */
import type { Document, UpdateFilter } from 'mongodb';
import type { DocumentId, Storable } from './document-types.js';

/** Of every call. Milliseconds; a write that was given up by `signal` may have happened. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly maxTimeMS?: number | undefined;
  readonly comment?: unknown;
}
export interface Targeted extends CallOptions {
  readonly collation?: Document | undefined;
  readonly hint?: string | Document | undefined;
}
export interface Sought extends Targeted {
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
