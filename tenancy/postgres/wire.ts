/**
 * The few messages of PostgreSQL's protocol (version 3, "Message Formats") that go ahead of a caller's statement, and the
 * insides of node-postgres that they rest on. Its types leave those out, so they are declared here, once.
 */
import { isUint8Array } from 'node:util/types';
import pg from 'pg';
import { type Reading, withoutOversized } from './oversized.js';

export type Parameter = string | Buffer | null;

/** The connection that node-postgres hands to a query's `submit`. */
export interface Wire {
  readonly stream: {
    write(bytes: Buffer): boolean;
    destroy(error?: Error): void;
    listeners(event: 'data'): ((bytes: Buffer) => void)[];
    on(event: 'data', read: (bytes: Buffer) => void): void;
    off(event: 'data', read: (bytes: Buffer) => void): void;
    readonly writable: boolean;
  };
  parse(message: { text: string; name: string }): void;
  sync(): void;
  on(event: 'parseComplete' | 'errorMessage', listener: () => void): void;
  on(event: 'readyForQuery', listener: (message: { status: string }) => void): void;
}

/** What a RowDescription says of a column. */
export interface Field {
  readonly name: string;
  readonly dataTypeID: number;
  readonly format: string;
}

interface QueryInsides {
  requiresPreparation(): boolean;
  prepare(connection: Wire): void;
  /** The statement is rejected with this once the server is done with it. */
  _canceledDueToError: unknown;
  readonly _result: {
    readonly rows: unknown[];
    readonly _types: { getTypeParser(dataTypeID: number, format: string): (value: string) => unknown };
    fields: Field[];
    _parsers: ((value: string) => unknown)[];
    /** An empty row, copied for each. */
    _prebuiltEmptyResultObject: unknown;
  };
  /** Whether rows are kept for the callback; else each is only emitted. */
  _accumulateRows: boolean;
  handleRowDescription(message: { readonly fields: readonly Field[] }): void;
  handleDataRow(message: { readonly length: number }): void;
  handleCommandComplete(message: unknown, connection: Wire): void;
  handleReadyForQuery(connection: Wire): void;
  handleError(error: Error, connection: Wire): void;
}

/** Pipelining takes instances of pg.Query only; this is that class with the methods that its types leave out. */
export const WireQuery = pg.Query as unknown as new (
  config:
    | string
    | {
        readonly text: string;
        readonly rowMode?: 'array' | undefined;
        readonly types?: pg.CustomTypesConfig | undefined;
      },
  values: undefined,
  callback: (error: Error | null | undefined, result: pg.QueryResult) => void,
) => QueryInsides;

export const wireOf = (client: pg.Client): Wire => client.connection as unknown as Wire;

/**
 * What node-postgres throws while it reads (a value longer than a string can be, say) would end the process. `failed` is
 * told instead; what follows on that connection cannot be understood any more. Rows longer than `longestRow` are kept
 * from node-postgres; `onRow` is told of each. To be called between two answers, when the server is silent.
 */
export function guardReading(
  { stream }: Wire,
  guard: Omit<Reading, 'read'> & { readonly failed: (error: unknown) => void },
): void {
  for (const listener of stream.listeners('data')) {
    stream.off('data', listener);
    stream.on(
      'data',
      withoutOversized({
        ...guard,
        read(bytes) {
          try {
            listener(bytes);
          } catch (error) {
            guard.failed(error);
          }
        },
      }),
    );
  }
}

/**
 * Turns a JavaScript value into a parameter in node-postgres' own way. Undefined (a value that has no JSON) becomes null,
 * and only a real Buffer is sent as binary.
 */
export function toParameter(value: unknown): Parameter {
  const { prepareValue } = (pg as unknown as { utils: { prepareValue(value: unknown): unknown } }).utils;
  const parameter = prepareValue(value) ?? null;
  if (parameter === null || typeof parameter === 'string') return parameter;
  if (isUint8Array(parameter)) return ownView(parameter);
  throw new TypeError('a value became neither text nor bytes');
}

/** The same bytes, without methods or lengths that the caller may have overridden. */
function ownView(bytes: Uint8Array): Buffer {
  const read = <T>(getter: (() => T) | undefined): T => (getter as () => T).call(bytes);
  const { buffer, byteOffset, byteLength } = OF_BYTES;
  return Buffer.from(read(buffer.get) as ArrayBuffer, read(byteOffset.get), read(byteLength.get));
}
const OF_BYTES = Object.getOwnPropertyDescriptors(Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array);

/** A statement to send: its text, or the name under which it was prepared. */
export interface Step {
  readonly text?: string | undefined;
  readonly name?: string | undefined;
  readonly values: readonly Parameter[];
}

/** What one Sync ends. */
interface GroupParts {
  /** Prepared statements to close. They go first: behind an error the server would skip them. */
  readonly dropped: readonly string[];
  readonly ahead: readonly Step[];
  /** The caller's statement, whose columns are asked for unless they are `known`. */
  readonly own: (Step & { readonly known: boolean }) | undefined;
}

/** In one buffer, so that it is sent whole or not at all. One write also costs less than many. */
export function groupBytes({ dropped, ahead, own }: GroupParts): Buffer {
  let size = SYNC.length + (own === undefined ? 0 : roomOf(own));
  for (const name of dropped) size += 7 + roomOfText(name);
  for (const step of ahead) size += roomOf(step);
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (const name of dropped) at = writeClose(bytes, at, name);
  for (const step of ahead) at = writeStep(bytes, at, step, RUN);
  if (own === undefined) at += SYNC.copy(bytes, at);
  else at = writeStep(bytes, at, own, own.known ? RUN_AND_SYNC : DESCRIBE_RUN_AND_SYNC);
  return bytes.subarray(0, at);
}

const [PARSE, BIND, CLOSE, STATEMENT] = [0x50, 0x42, 0x43, 0x53] as const; // P, B, C, S
const SYNC = Buffer.from('S\0\0\0\x04', 'latin1');
/** Execute: the unnamed portal, all rows. */
const RUN = Buffer.from('E\0\0\0\x09\0\0\0\0\0', 'latin1');
const RUN_AND_SYNC = Buffer.concat([RUN, SYNC]);
const DESCRIBE_RUN_AND_SYNC = Buffer.concat([Buffer.from('D\0\0\0\x06P\0', 'latin1'), RUN_AND_SYNC]);

/** Runs twice for every statement of a product, hence no helper for each number. */
function writeStep(bytes: Buffer, from: number, { text, name = '', values }: Step, end: Buffer): number {
  let at = from;
  if (text !== undefined) {
    const begin = at + 1;
    bytes[at] = PARSE;
    at = writeCString(bytes, begin + 4, name);
    at = writeCString(bytes, at, text);
    // No types of parameters: the server infers them.
    at = bytes.writeInt16BE(0, at);
    bytes.writeInt32BE(at - begin, begin);
  }
  const begin = at + 1;
  bytes[at] = BIND;
  // The unnamed portal.
  bytes[begin + 4] = 0;
  at = writeCString(bytes, begin + 5, name);
  at = bytes.writeUInt16BE(values.length, at);
  // Formats of parameters: 1 is binary, for a Buffer.
  for (const value of values) at = bytes.writeInt16BE(typeof value === 'object' && value ? 1 : 0, at);
  at = bytes.writeUInt16BE(values.length, at);
  for (const value of values) {
    const length =
      value === null
        ? -1
        : typeof value === 'string'
          ? bytes.write(value, at + 4)
          : value.copy(bytes, at + 4);
    bytes.writeInt32BE(length, at);
    at += 4 + Math.max(length, 0);
  }
  // No formats of results: all are text.
  at = bytes.writeInt16BE(0, at);
  bytes.writeInt32BE(at - begin, begin);
  return at + end.copy(bytes, at);
}

function writeClose(bytes: Buffer, from: number, name: string): number {
  bytes[from] = CLOSE;
  bytes[from + 5] = STATEMENT;
  const at = writeCString(bytes, from + 6, name);
  bytes.writeInt32BE(at - from - 1, from + 1);
  return at;
}

function writeCString(bytes: Buffer, at: number, text: string): number {
  const end = at + bytes.write(text, at);
  bytes[end] = 0;
  return end + 1;
}

/** An upper bound in bytes: the fixed parts and the texts. */
function roomOf({ text, name = '', values }: Step): number {
  let room = 64 + 2 * roomOfText(name) + (text === undefined ? 0 : roomOfText(text));
  for (const value of values)
    room += 6 + (value === null ? 0 : typeof value === 'string' ? roomOfText(value) : value.length);
  return room;
}

/** For a short text, measuring costs more than a little spare room. */
const roomOfText = (text: string): number => (text.length < 64 ? 3 * text.length : Buffer.byteLength(text));
