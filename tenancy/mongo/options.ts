/**
 * The options that each method takes. Left out on purpose: whatever names a session, a database, a read or write
 * concern, a way to read BSON, or skips a validator.
 */
export type OptionKind = 'number' | 'boolean' | 'string' | 'bson';
export type OptionTable = Readonly<Record<string, OptionKind>>;

/**
 * Names by which the driver would send a statement to another database, or add an `$out` to it. Given as undefined they
 * hide what a polluted `Object.prototype` says.
 */
export const NOT_INHERITED = { dbName: undefined, authdb: undefined, out: undefined } as const;

const ANY = { maxTimeMS: 'number', comment: 'bson' } as const satisfies OptionTable;
const READ = { ...ANY, collation: 'bson', hint: 'bson' } as const satisfies OptionTable;
const DELETE = { ...READ, let: 'bson' } as const satisfies OptionTable;
const UPDATE = { ...DELETE, upsert: 'boolean', arrayFilters: 'bson' } as const satisfies OptionTable;
const AND = { projection: 'bson', sort: 'bson' } as const satisfies OptionTable;
const FIND_ONE = {
  ...READ,
  ...AND,
  skip: 'number',
  let: 'bson',
  allowDiskUse: 'boolean',
} as const satisfies OptionTable;

export const OPTIONS = {
  findOne: FIND_ONE,
  find: { ...FIND_ONE, limit: 'number', batchSize: 'number' },
  insertOne: ANY,
  insertMany: { ...ANY, ordered: 'boolean' },
  updateOne: { ...UPDATE, sort: 'bson' },
  updateMany: UPDATE,
  replaceOne: { ...DELETE, upsert: 'boolean', sort: 'bson' },
  delete: DELETE,
  findOneAndUpdate: { ...UPDATE, ...AND, returnDocument: 'string' },
  findOneAndReplace: { ...DELETE, ...AND, upsert: 'boolean', returnDocument: 'string' },
  findOneAndDelete: { ...DELETE, ...AND },
  countDocuments: { ...READ, limit: 'number', skip: 'number' },
  estimatedDocumentCount: ANY,
  distinct: READ,
  aggregate: { ...READ, let: 'bson', allowDiskUse: 'boolean', batchSize: 'number' },
  bulkWrite: { ...ANY, ordered: 'boolean', let: 'bson' },
  // Of one operation in a bulk.
  bulkUpdateOne: { collation: 'bson', hint: 'bson', upsert: 'boolean', arrayFilters: 'bson', sort: 'bson' },
  bulkUpdateMany: { collation: 'bson', hint: 'bson', upsert: 'boolean', arrayFilters: 'bson' },
  bulkReplaceOne: { collation: 'bson', hint: 'bson', upsert: 'boolean', sort: 'bson' },
  bulkDelete: { collation: 'bson', hint: 'bson' },
} as const satisfies Record<string, OptionTable>;
