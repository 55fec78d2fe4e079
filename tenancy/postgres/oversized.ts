/**
 * What the server sends, without the messages that are longer than may be held: node-postgres gathers all of one before it
 * looks at it. A message says its type and its length first (PostgreSQL's protocol, version 3, "Message Formats"), so one
 * that is too long is known before it is there, and what is behind it on the connection is read as ever.
 */

/** A byte for the type, four for the length, which counts itself and what follows. */
const HEADER = 5;

const [DATA_ROW, ERROR, NOTICE] = [0x44, 0x45, 0x4e] as const; // D, E, N

/** An error's text holds the value that it is about. Bytes. */
const LONGEST_TEXT = 2 ** 20;

export interface Reading {
  /** Of a row, in bytes. */
  readonly longestRow: number;
  /** With what has come, in order. */
  readonly read: (bytes: Buffer) => void;
  /** A row was left out, behind all that has been read. */
  readonly onRow: () => void;
}

/** @returns what is to be called with the bytes as they come, the first of them the first of a message */
export function withoutOversized({ longestRow, read, onRow }: Reading): (bytes: Buffer) => void {
  /** The beginning of a header. */
  let held: Buffer | undefined;
  /** Bytes of a message that are still to come, and whether it is left out. */
  let left = 0;
  let isLeftOut = false;

  return (bytes) => {
    const all = held === undefined ? bytes : Buffer.concat([held, bytes]);
    held = undefined;
    let at = Math.min(left, all.length);
    left -= at;
    let from = isLeftOut ? at : 0;
    while (all.length - at >= HEADER) {
      const type = all[at];
      const end = at + 1 + all.readUInt32BE(at + 1);
      isLeftOut = isTooLong(type, end - at, longestRow);
      if (isLeftOut) {
        if (at > from) read(all.subarray(from, at));
        if (type === ERROR) read(TOO_LONG);
        if (type === DATA_ROW) onRow();
        from = Math.min(end, all.length);
      }
      left = Math.max(end - all.length, 0);
      at = end - left;
    }
    if (at < all.length) held = all.subarray(at);
    if (at > from) read(from === 0 && at === all.length ? all : all.subarray(from, at));
  };
}

function isTooLong(type: number | undefined, length: number, longestRow: number): boolean {
  if (type === DATA_ROW) return length > longestRow;
  return length > LONGEST_TEXT && (type === ERROR || type === NOTICE);
}

/** In its place, as the server would say it (54000 is program_limit_exceeded). */
const TOO_LONG = errorResponse({
  S: 'ERROR',
  V: 'ERROR',
  C: '54000',
  M: 'the error of the server is longer than may be held in memory',
});

function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const body = Object.entries(fields)
    .map(([name, text]) => `${name}${text}\0`)
    .join('');
  const bytes = Buffer.from(`E\0\0\0\0${body}\0`, 'latin1');
  bytes.writeInt32BE(bytes.length - 1, 1);
  return bytes;
}
