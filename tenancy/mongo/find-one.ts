/**
 * `findOne` as a single command. The driver's own makes a cursor for each call, with listeners and clean-up: about a sixth of the
 * client's time for a read by primary key. A new session for each call takes another tenth. Here a few sessions are reused, and
 * with them the options, which the driver would otherwise read anew each time. What is sent is the same.
 */
import {
  type Collection,
  type Document,
  type MongoClient,
  MongoNetworkError,
  MongoServerError,
  type RunCommandOptions,
} from 'mongodb';
import { executeCommandOf } from './driver-inside.js';

export type FindOne = (
  within: OneDatabase,
  collection: string,
  filter: Document,
  options: Document,
) => Promise<Document | null>;

export interface FindOneSender {
  readonly send: FindOne;
  /** Ends the sessions that are kept. */
  forget(): void;
}

export interface OneDatabase {
  readonly database: string;
  collection(name: string): Collection;
}

/** @param poolSize how many sessions are kept for reuse */
export function createFindOne(client: MongoClient, poolSize: number): FindOneSender {
  const { retryReads } = client.options;
  const concern = client.readConcern && { readConcern: client.readConcern };
  // Options that a command does not inherit from its client.
  const { readPreference } = client;
  const given = nothingInherited(
    client.bsonOptions,
    readPreference.mode === 'primary' ? {} : { readPreference },
  );
  const execute = executeCommandOf(client);
  const idle: Sent[] = [];

  const send = async (
    database: string,
    command: Document,
    signal: AbortSignal | undefined,
  ): Promise<Document | null> => {
    const sent = idle.pop() ?? nothingInherited(given, { session: client.startSession(ALONE) });
    let kept = false;
    try {
      const answer = await execute(database, command, signal ? nothingInherited(sent, { signal }) : sent);
      kept = idle.length < poolSize;
      if (kept) idle.push(sent);
      return firstOf(answer);
    } finally {
      if (!kept) await sent.session?.endSession();
    }
  };

  return {
    async send(within, collection, filter, options) {
      const command = commandOf(collection, filter, options, concern);
      if (command === undefined) return await within.collection(collection).findOne(filter, options);
      const signal = options['signal'] as AbortSignal | undefined;
      try {
        return await send(within.database, command, signal);
      } catch (error) {
        if (!retryReads || !isRetryable(error)) throw error;
        return await send(within.database, command, signal);
      }
    },
    forget() {
      for (const { session } of idle.splice(0)) void session?.endSession();
    },
  };
}

type Sent = RunCommandOptions;

/** Like the session that the driver makes for one call. A server that has forgotten it starts it anew on its next use. */
const ALONE = { causalConsistency: false };

/**
 * The prototype of options, so that they inherit nothing from a polluted `Object.prototype`. It is not null itself, because V8
 * is slow at looking up fields in objects whose prototype is null.
 */
const NOTHING: object = Object.freeze(Object.create(null) as object);
const nothingInherited = (...parts: Sent[]): Sent =>
  Object.assign(Object.create(NOTHING) as Sent, ...parts) as Sent;

const firstOf = (answer: Document): Document | null =>
  (answer as { readonly cursor: { readonly firstBatch: readonly Document[] } }).cursor.firstBatch[0] ?? null;

/** Undefined where the command cannot be built from the options as they stand: then the driver's own `findOne` is used. */
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
 * A read is retried as the driver does it: once, after a network error or one of these codes.
 * https://github.com/mongodb/specifications/blob/master/source/retryable-reads/retryable-reads.md
 */
const RETRYABLE = new Set<unknown>([6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436]);
const isRetryable = (error: unknown): boolean =>
  error instanceof MongoNetworkError || (error instanceof MongoServerError && RETRYABLE.has(error.code));
