/**
 * `findOne` as the one command that it is. The driver's own makes a cursor for each, with its session, listeners and
 * clean-up: about a sixth of what a call by primary key costs (docs/benchmarks.md). What is sent is the same.
 */
import {
  type Collection,
  type Db,
  type Document,
  type MongoClient,
  MongoNetworkError,
  MongoServerError,
  type RunCommandOptions,
} from 'mongodb';

export type FindOne = (
  collection: Collection,
  filter: Document,
  options: Document,
) => Promise<Document | null>;

export function findOneThrough(client: MongoClient, db: Db): FindOne {
  const { retryReads } = client.options;
  // What a command does not take from its client by itself.
  const given = nothingInherited<RunCommandOptions>(db.bsonOptions, {
    readPreference: client.readPreference,
  });
  const concern = client.readConcern && { readConcern: client.readConcern };
  return async (collection, filter, options) => {
    const command = commandOf(collection.collectionName, filter, options, concern);
    if (command === undefined) return collection.findOne(filter, options);
    const signal = options['signal'] as AbortSignal | undefined;
    const sent = signal === undefined ? given : nothingInherited<RunCommandOptions>(given, { signal });
    try {
      return firstOf(await db.command(command, sent));
    } catch (error) {
      if (!retryReads || !isRetryable(error)) throw error;
      return firstOf(await db.command(command, sent));
    }
  };
}

/** Not from a polluted `Object.prototype` either. */
const nothingInherited = <T extends object>(...parts: T[]): T =>
  Object.assign(Object.create(null) as T, ...parts) as T;

const firstOf = (answer: Document): Document | null =>
  (answer as { readonly cursor: { readonly firstBatch: readonly Document[] } }).cursor.firstBatch[0] ?? null;

/** Undefined where something is to be sent in another form than it is given in, or in a session: the driver's own does it. */
function commandOf(
  name: string,
  filter: Document,
  options: Document,
  concern: Document | undefined,
): Document | undefined {
  if ('_bsontype' in filter) return undefined;
  const command: Document = { find: name, filter, limit: 1, singleBatch: true, ...concern };
  for (const option of Object.keys(options)) {
    const value: unknown = options[option];
    if (value === undefined || option === 'signal') continue;
    if (!isField(option, value)) return undefined;
    command[option] = value;
  }
  return command;
}

/** Whether an option is a field of the command as it stands. `sort` and `hint` have several forms. */
function isField(option: string, value: unknown): boolean {
  switch (option) {
    case 'maxTimeMS':
    case 'skip':
    case 'allowDiskUse':
    case 'comment':
      return true;
    case 'projection':
    case 'collation':
    case 'let':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    default:
      return false;
  }
}

/**
 * As the driver retries a read: once, after a network error or one of these codes.
 * https://github.com/mongodb/specifications/blob/master/source/retryable-reads/retryable-reads.md
 */
const RETRYABLE = new Set<unknown>([6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436]);
const isRetryable = (error: unknown): boolean =>
  error instanceof MongoNetworkError || (error instanceof MongoServerError && RETRYABLE.has(error.code));
