/** Redis' wire protocol, version 2: commands as text, replies as they come in pieces. */
import { constants } from 'node:buffer';

/** An error that the server gave as a command's reply. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError';
}

export type Reply = string | number | null | ReplyError | Reply[];

/** The error that a command was answered with, or that stands in the place of a part of its answer. */
export function errorIn(reply: Reply): ReplyError | undefined {
  if (reply instanceof ReplyError) return reply;
  if (!Array.isArray(reply)) return undefined;
  for (const item of reply) {
    const error = typeof item === 'object' && item !== null ? errorIn(item) : undefined;
    if (error !== undefined) return error;
  }
  return undefined;
}

/** Each argument goes with its length: nothing in it can begin another command. */
export function encode(args: readonly string[]): string {
  let text = `*${args.length}\r\n`;
  for (const arg of args) text += `$${Buffer.byteLength(arg)}\r\n${arg}\r\n`;
  return text;
}

const CR = 13;
const EMPTY = Buffer.alloc(0);
type Kind = '+' | '-' | ':' | '$' | '*';

/** Takes what the socket gives and hands out whole replies, in order. */
export class ReplyReader {
  /** What has come of a reply that is not whole; as pieces, so that a long value is put together once. */
  private pieces: Buffer[] = [];
  private held = 0;
  private wanted = 0;
  /** How much of what comes next belongs to a value that is not kept. */
  private skipped = 0;
  /** The arrays that are being filled, the innermost last. */
  private readonly open: { readonly items: Reply[]; missing: number }[] = [];

  constructor(private readonly onReply: (reply: Reply) => void) {}

  /** @throws Error when it is not Redis that answers */
  feed(bytes: Buffer): void {
    const chunk = bytes.subarray(this.skipped);
    this.skipped -= bytes.length - chunk.length;
    this.pieces.push(chunk);
    this.held += chunk.length;
    if (this.held < this.wanted) return;
    const data = this.pieces.length === 1 ? chunk : Buffer.concat(this.pieces);
    const read = this.read(data);
    const rest = read === data.length ? EMPTY : data.subarray(read);
    this.pieces = rest.length === 0 ? [] : [rest];
    this.held = rest.length;
  }

  /** @returns how many bytes were whole values */
  private read(data: Buffer): number {
    let at = 0;
    this.wanted = 0;
    while (at < data.length) {
      const end = data.indexOf(CR, at);
      // The line feed may be what is missing.
      if (end === -1 || end + 1 >= data.length) return at;
      const kind = String.fromCharCode(data[at] ?? 0) as Kind;
      const line = data.toString('latin1', at + 1, end);
      let next = end + 2;
      switch (kind) {
        case '+':
          this.take(line);
          break;
        case ':':
          this.take(Number(line));
          break;
        case '-':
          this.take(new ReplyError(data.toString('utf8', at + 1, end)));
          break;
        case '$': {
          const length = Number(line);
          if (length === -1) {
            this.take(null);
            break;
          }
          if (length > constants.MAX_STRING_LENGTH) {
            // Redis keeps 24 bytes more than a string may have characters.
            this.take(new ReplyError('TOOLONG a value is longer than a string can be'));
            next += length + 2;
            this.skipped = Math.max(0, next - data.length);
            next -= this.skipped;
            break;
          }
          if (next + length + 2 > data.length) {
            this.wanted = next + length + 2 - at;
            return at;
          }
          this.take(data.toString('utf8', next, next + length));
          next += length + 2;
          break;
        }
        case '*': {
          const length = Number(line);
          if (length > 0) this.open.push({ items: [], missing: length });
          else this.take(length === 0 ? [] : null);
          break;
        }
        default:
          throw new Error(`not a Redis reply: ${JSON.stringify(kind satisfies never)}`);
      }
      at = next;
    }
    return at;
  }

  private take(value: Reply): void {
    let reply = value;
    for (let inner = this.open.at(-1); inner !== undefined; inner = this.open.at(-1)) {
      inner.items.push(reply);
      inner.missing -= 1;
      if (inner.missing > 0) return;
      this.open.pop();
      reply = inner.items;
    }
    this.onReply(reply);
  }
}
