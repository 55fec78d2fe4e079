/** The operations of a `bulkWrite`. */
import type { AnyBulkWriteOperation, Filter } from 'mongodb';
import type { Targeted, Update, UpdateOneOptions, UpdateOptions } from './call-types.js';
import type { NewDocument } from './document-types.js';
import type { Guard } from './guard.js';
import { OPTIONS } from './options.js';
import { refused } from './refused.js';

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
export function bulkOperation(guard: Guard, operation: unknown): AnyBulkWriteOperation {
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
