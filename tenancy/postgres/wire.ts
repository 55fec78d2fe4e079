/**
 * The few messages of PostgreSQL's protocol (version 3, "Message Formats") that go ahead of a caller's statement, and
 * what of node-postgres' insides they rest on: the insides are not in its types, so they are declared here, once.
 */
import { isUint8Array } from 'node:util/types';
import pg from 'pg';

export type Parameter = string | Buffer | null;

/** A connection as `submit` of a query gets it. */
export interface Wire {
  readonly stream: {
    cork(): void;
    uncork(): void;
    write(bytes: Buffer): boolean;
    destroy(error?: Error): void;
    listeners(event: 'data'): ((bytes: Buffer) => void)[];
    on(event: 'data', read: (bytes: Buffer) => void): void;
    off(event: 'data', read: (bytes: Buffer) => void): void;
    readonly writable: boolean;
  };
  parse(message: { text: string; name: string }): void;
  bind(message: { portal: string; statement: string; values: readonly Parameter[] }): void;
  describe(message: { type: 'P'; name: string }): void;
  execute(message: { portal: string }): void;
  close(message: { type: 'S'; name: string }): void;
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
  /** What the statement is rejected with when the server is done with it. */
  _canceledDueToError: unknown;
  readonly _result: {
    readonly rows: unknown[];
    readonly _types: { getTypeParser(dataTypeID: number, format: string): (value: string) => unknown };
    fields: Field[];
    _parsers: ((value: string) => unknown)[];
    /** A row before its values are there, which is copied for each. */
    _prebuiltEmptyResultObject: unknown;
  };
  /** Of rows that a callback is given. Without it each is only emitted. */
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
 * What node-postgres throws while it reads, as of a value that is longer than a string can be, would be nobody's and end
 * the process. `failed` is told instead; of what is behind it on the connection nothing can be understood.
 */
export function guardReading({ stream }: Wire, failed: (error: unknown) => void): void {
  for (const read of stream.listeners('data')) {
    stream.off('data', read);
    stream.on('data', (bytes) => {
      try {
        read(bytes);
      } catch (error) {
        failed(error);
      }
    });
  }
}

/**
 * node-postgres' own way to turn a JavaScript value into a parameter. Undefined, such as the JSON of what has none, is
 * null; what only calls itself a Buffer is none.
 */
export function toParameter(value: unknown): Parameter {
  const { prepareValue } = (pg as unknown as { utils: { prepareValue(value: unknown): unknown } }).utils;
  const parameter = prepareValue(value) ?? null;
  if (parameter === null || typeof parameter === 'string') return parameter;
  if (isUint8Array(parameter)) return parameter as Buffer;
  throw new TypeError('a value became neither text nor bytes');
}

/**
 * Parse, Bind, Execute of a statement whose rows nobody wants; `name` of a prepared one leaves the Parse out. One buffer,
 * written from front to back: this is done for every statement of a product.
 */
export function runBytes(
  statement: { readonly text: string } | { readonly name: string },
  values: readonly (string | null)[] = [],
): Buffer {
  const text = 'text' in statement ? statement.text : undefined;
  const name = 'name' in statement ? statement.name : '';
  const lengths = values.map((value) => (value === null ? -1 : Buffer.byteLength(value)));
  // Of each message without its type: the length itself, then what is written below.
  const parse = text === undefined ? 0 : 4 + 1 + Buffer.byteLength(text) + 1 + 2;
  const bind = lengths.reduce(
    (sum, length) => sum + 4 + Math.max(length, 0),
    4 + 1 + Buffer.byteLength(name) + 1 + 2 + 2 + 2,
  );
  const execute = 4 + 1 + 4;
  const bytes = Buffer.allocUnsafe((parse === 0 ? 0 : 1 + parse) + 1 + bind + 1 + execute);
  let at = 0;
  const letter = (type: string): void => void (at = bytes.writeUInt8(type.charCodeAt(0), at));
  const int16 = (value: number): void => void (at = bytes.writeInt16BE(value, at));
  const int32 = (value: number): void => void (at = bytes.writeInt32BE(value, at));
  const string = (value: string): void => void (at += bytes.write(value, at));
  const cstring = (value: string): void => {
    string(value);
    at = bytes.writeUInt8(0, at);
  };
  if (text !== undefined) {
    letter('P');
    int32(parse);
    cstring('');
    cstring(text);
    int16(0);
  }
  // The portal without a name; all parameters and results as text.
  letter('B');
  int32(bind);
  cstring('');
  cstring(name);
  int16(0);
  int16(values.length);
  for (const [index, value] of values.entries()) {
    int32(lengths[index] ?? -1);
    if (value !== null) string(value);
  }
  int16(0);
  letter('E');
  int32(execute);
  cstring('');
  int32(0);
  return bytes;
}

/**
 * The usual group in one buffer: what goes ahead, then Bind, Describe, Execute of a prepared statement, and Sync. One
 * write costs less than the five that it takes message by message.
 * @param described its columns are known, and Describe is left out
 */
export function preparedGroup(
  ahead: readonly Buffer[],
  name: string,
  values: readonly Parameter[],
  described: boolean,
): Buffer {
  const end = described ? RUN_AND_SYNC : DESCRIBE_RUN_AND_SYNC;
  const lengths = values.map((value) =>
    value === null ? -1 : typeof value === 'string' ? Buffer.byteLength(value) : value.length,
  );
  const bind = lengths.reduce(
    (sum, length) => sum + 2 + 4 + Math.max(length, 0),
    4 + 1 + Buffer.byteLength(name) + 1 + 2 + 2 + 2,
  );
  const before = ahead.reduce((sum, bytes) => sum + bytes.length, 0);
  const bytes = Buffer.allocUnsafe(before + 1 + bind + end.length);
  let at = 0;
  for (const step of ahead) at += step.copy(bytes, at);
  at = bytes.writeUInt8(BIND, at);
  at = bytes.writeInt32BE(bind, at);
  at = bytes.writeUInt8(0, at);
  at += bytes.write(name, at);
  at = bytes.writeUInt8(0, at);
  at = bytes.writeUInt16BE(values.length, at);
  // Text or, of a Buffer, binary.
  for (const value of values) at = bytes.writeInt16BE(Buffer.isBuffer(value) ? 1 : 0, at);
  at = bytes.writeUInt16BE(values.length, at);
  for (const [index, value] of values.entries()) {
    at = bytes.writeInt32BE(lengths[index] ?? -1, at);
    if (value !== null) at += typeof value === 'string' ? bytes.write(value, at) : value.copy(bytes, at);
  }
  at = bytes.writeInt16BE(0, at);
  end.copy(bytes, at);
  return bytes;
}

const BIND = 'B'.charCodeAt(0);
/** Execute of the portal without a name, all rows; Sync. */
const RUN_AND_SYNC = Buffer.from('E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04', 'latin1');
const DESCRIBE_RUN_AND_SYNC = Buffer.concat([Buffer.from('D\0\0\0\x06P\0', 'latin1'), RUN_AND_SYNC]);
