/**
 * One connection to Redis, used by many tenants in turn: an AUTH goes before the commands of each, in the same write.
 *
 * - A new socket sends nothing but logins until one has succeeded, so no command ever runs as the `default` user.
 * - After a login that failed, the connection is still the previous tenant's, whose ACL refuses the other tenant's keys. The
 *   replies to the commands behind that login are never handed out.
 * - Nothing is written a second time here, since a command without its AUTH would run as somebody else. A connection that
 *   is lost gives its commands back, and their caller decides.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { encode, type Reply, ReplyError, ReplyReader } from './resp.js';

/** Who is logged in. Compared by identity. */
export interface Account {
  readonly user: string;
  readonly password: string;
}

/** Commands of one tenant that stay together. */
export interface Exchange {
  readonly account: Account;
  /** The commands as they go over the wire, MULTI and EXEC included. */
  readonly text: string;
  /** How many replies the commands get. */
  readonly count: number;
  end(outcome: Outcome): void;
}

export type Outcome =
  | { readonly kind: 'answered'; readonly replies: Reply[] }
  /** The login was refused: nothing ran as the tenant. */
  | { readonly kind: 'login-refused'; readonly error: Error }
  /** Never written: nothing ran. */
  | { readonly kind: 'unsent'; readonly error: Error }
  /** Written, and no answer came: it may have run. */
  | { readonly kind: 'lost'; readonly error: Error }
  /** Not answered in time: it may have run, or be about to. */
  | { readonly kind: 'late'; readonly error: Error };

export interface LaneOptions {
  readonly url: string;
  /** The name that CLIENT LIST shows. */
  readonly name: string;
  /** Milliseconds, for the connection and its first login. */
  readonly connectTimeout: number;
  /** Milliseconds from `submit` to the last reply. */
  readonly commandTimeout: number;
}

interface Login {
  readonly account: Account;
  error?: Error;
}

interface Submitted {
  readonly exchange: Exchange;
  readonly since: number;
  /** Failures to connect since it was submitted. It waits through one, so that a restart is not an outage for everybody. */
  failures: number;
  login?: Login;
  replies: Reply[];
  over: boolean;
}

type State = 'idle' | 'connecting' | 'fresh' | 'logging-in' | 'ready' | 'retired';

const LONGEST_PAUSE = 1_000;
/** How long a connection is kept whose server takes no writes, in milliseconds. */
const READ_ONLY_FOR = 1_000;

export class Lane {
  private state: State = 'idle';
  private socket: Socket | undefined;
  private queue: Submitted[] = [];
  private readonly written = new Fifo<Submitted | Login>();
  /** The last login that was written. Whether it succeeded is known when its reply has come. */
  private login: Login | undefined;
  private flushing = false;
  private failures = 0;
  private heard = 0;
  private readySince = 0;
  private pause: NodeJS.Timeout | undefined;
  logins = 0;
  connects = 0;

  constructor(private readonly options: LaneOptions) {}

  get isConnected(): boolean {
    return this.state === 'ready';
  }

  get isIdle(): boolean {
    return this.queue.length === 0 && this.written.size === 0;
  }

  submit(exchange: Exchange): void {
    this.queue.push({ exchange, since: performance.now(), failures: 0, replies: [], over: false });
    if (this.state === 'idle' && this.pause === undefined) this.connect();
    else this.flushSoon();
  }

  /**
   * Takes an exchange back if it was not written yet.
   * @returns whether it was taken back; otherwise it may run, and ends as usual
   */
  withdraw(exchange: Exchange): boolean {
    const at = this.queue.findIndex((submitted) => submitted.exchange === exchange);
    if (at !== -1) this.queue.splice(at, 1);
    return at !== -1;
  }

  /** Called now and then. Ends what has waited too long, and gives up a connection that does not answer or has fallen behind. */
  checkTime(now: number): void {
    const late = now - this.options.commandTimeout;
    const error = new Error('Command timed out');
    const isLate = ({ since }: Submitted): boolean => since < late;
    for (const submitted of this.queue.filter(isLate)) this.end(submitted, { kind: 'late', error });
    this.queue = this.queue.filter((submitted) => !submitted.over);
    let oldest = now;
    for (const entry of this.written) {
      if (!('exchange' in entry)) continue;
      oldest = Math.min(oldest, entry.since);
      if (!isLate(entry)) break;
      // It stays in the list, because its replies are still to come.
      this.end(entry, { kind: 'late', error });
    }
    const isDumb = this.written.size > 0 && this.heard < late;
    // Replies do come, but to commands that were given up long ago. All later ones would be late too, for ever.
    const isBehind = oldest < late - this.options.commandTimeout;
    if (isDumb || isBehind) this.socket?.destroy(error);
  }

  /** Closes the connection for good and ends what is under way. */
  close(): void {
    this.state = 'retired';
    clearTimeout(this.pause);
    const error = new Error('Connection is closed.');
    this.giveBack(error);
    for (const submitted of this.queue.splice(0)) this.end(submitted, { kind: 'unsent', error });
    this.socket?.destroy();
  }

  private connect(): void {
    this.state = 'connecting';
    this.connects += 1;
    const socket = openSocket(this.options.url);
    this.socket = socket;
    let reason = new Error('Connection is closed.');
    const reader = new ReplyReader((reply) => this.onReply(reply));
    // This time-out is for connecting and for the first login. At other times `checkTime` watches.
    socket.on('timeout', () => socket.destroy(new Error('connect ETIMEDOUT')));
    socket.setTimeout(this.options.connectTimeout);
    socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => {
      socket.setTimeout(0);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 30_000);
      this.heard = performance.now();
      this.state = 'fresh';
      this.flush();
    });
    socket.on('data', (chunk) => {
      this.heard = performance.now();
      try {
        reader.feed(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.once('error', (error) => (reason = error));
    socket.once('close', () => this.onEnd(socket, reason));
  }

  private onEnd(socket: Socket, error: Error): void {
    if (this.state === 'retired' || socket !== this.socket) return;
    const wasReady = this.state === 'ready';
    this.state = 'idle';
    this.socket = undefined;
    this.login = undefined;
    this.failures = wasReady ? 0 : this.failures + 1;
    if (!wasReady) {
      for (const submitted of this.queue) {
        submitted.failures += 1;
        if (submitted.failures > 1) this.end(submitted, { kind: 'unsent', error });
      }
      this.queue = this.queue.filter(({ over }) => !over);
    }
    this.pause = setTimeout(
      () => {
        this.pause = undefined;
        if (this.queue.length > 0 && this.state === 'idle') this.connect();
      },
      this.failures === 0 ? 0 : Math.min(25 * 2 ** this.failures, LONGEST_PAUSE),
    );
    this.giveBack(error);
  }

  /** Ends what was written as lost: whether it ran is not known. */
  private giveBack(error: Error): void {
    const written = [...this.written];
    this.written.clear();
    for (const entry of written) {
      if ('exchange' in entry) this.end(entry, { kind: 'lost', error });
    }
  }

  /** Writes once per turn of the event loop, so that what comes in the same turn shares its logins and its write. */
  private flushSoon(): void {
    if (this.flushing || (this.state !== 'ready' && this.state !== 'fresh')) return;
    this.flushing = true;
    setImmediate(() => {
      this.flushing = false;
      this.flush();
    });
  }

  private flush(): void {
    if (this.queue.length === 0) return;
    if (this.state === 'fresh') this.logInFirst();
    if (this.state !== 'ready') return;
    const queue = this.queue;
    this.queue = [];
    let text = '';
    // No reply was due, so the silence begins now.
    if (this.written.size === 0) this.heard = performance.now();
    for (const [account, group] of groupByAccount(queue)) {
      // No AUTH where the last login was this tenant's. If that login is refused, so are these commands.
      if (this.login?.account !== account || this.login.error !== undefined) {
        this.login = { account };
        this.logins += 1;
        this.written.push(this.login);
        text += encode(['AUTH', account.user, account.password]);
      }
      for (const submitted of group) {
        submitted.login = this.login;
        this.written.push(submitted);
        text += submitted.exchange.text;
      }
    }
    this.socket?.write(text);
  }

  /** A connection's first login is sent alone and its answer awaited: until then the user may be `default`. */
  private logInFirst(): void {
    const first = this.queue[0];
    if (first === undefined) return;
    const { account } = first.exchange;
    this.state = 'logging-in';
    this.login = { account };
    this.logins += 1;
    const { user, password } = account;
    this.heard = performance.now();
    this.socket?.setTimeout(this.options.connectTimeout);
    this.socket?.write(encode(['HELLO', '2', 'AUTH', user, password, 'SETNAME', this.options.name]));
  }

  /** An error that this throws ends the connection, and later replies are not read. */
  private onReply(reply: Reply): void {
    if (this.state === 'logging-in') return this.onFirstLogin(reply);
    const head = this.written.peek();
    // A reply to no command: it would not be known whose the next one is.
    if (head === undefined) throw reply instanceof Error ? reply : new Error('an unexpected reply');
    if (!('exchange' in head)) {
      this.written.shift();
      if (reply === 'OK') return;
      head.error = reply instanceof Error ? reply : new Error('AUTH was not answered with OK');
      // The login was neither accepted nor refused: a MULTI was open, or this is no Redis. It is not known as whom the commands
      // behind it run, so nothing further on this connection is trusted.
      if (!isLoginRefused(head.error)) throw head.error;
      return;
    }
    head.replies.push(reply);
    if (head.replies.length < head.exchange.count) return;
    this.written.shift();
    const error = head.login?.error;
    if (error === undefined) this.end(head, { kind: 'answered', replies: head.replies });
    // The previous login may have been the same tenant's, with a password that was valid then. Then the commands may have run.
    else this.end(head, { kind: nothingRan(head.replies) ? 'login-refused' : 'lost', error });
    // After a fail-over the address leads to another server, and the old one shows it only by refusing writes.
    const readOnly = head.replies.find(isReadOnly);
    if (readOnly !== undefined && performance.now() - this.readySince > READ_ONLY_FOR) throw readOnly;
  }

  private onFirstLogin(reply: Reply): void {
    this.socket?.setTimeout(0);
    const login = this.login;
    if (!(reply instanceof ReplyError)) {
      this.state = 'ready';
      this.readySince = performance.now();
      this.failures = 0;
      return this.flush();
    }
    if (!isLoginRefused(reply)) throw reply;
    this.login = undefined;
    this.state = 'fresh';
    const refused = this.queue.filter(({ exchange }) => exchange.account === login?.account);
    this.queue = this.queue.filter(({ exchange }) => exchange.account !== login?.account);
    for (const submitted of refused) this.end(submitted, { kind: 'login-refused', error: reply });
    this.flush();
  }

  private end(submitted: Submitted, outcome: Outcome): void {
    if (submitted.over) return;
    submitted.over = true;
    submitted.exchange.end(outcome);
  }
}

/** Whether the server says that nothing ran: it refused each command, or the transaction that they were in. */
function nothingRan(replies: readonly Reply[]): boolean {
  const isRefusal = (reply: Reply | undefined, by: RegExp): boolean =>
    reply instanceof ReplyError && by.test(reply.message);
  return (
    isRefusal(replies.at(-1), /^EXECABORT\b/) ||
    replies.every((reply) => isRefusal(reply, /^(NOPERM|NOAUTH)\b/))
  );
}

const isReadOnly = (reply: Reply): reply is ReplyError =>
  reply instanceof ReplyError && /^READONLY\b/.test(reply.message);

const isLoginRefused = ({ message }: Error): boolean => /^(WRONGPASS|NOPERM|NOAUTH)\b/.test(message);

function openSocket(address: string): Socket {
  const url = new URL(address);
  const host = url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const port = Number(url.port || 6379);
  return url.protocol === 'rediss:'
    ? connectTls({ host, port, servername: host })
    : connectTcp({ host, port });
}

/** Groups in the order of their first command. The commands of a tenant keep their order. */
function groupByAccount(queue: readonly Submitted[]): Iterable<[Account, Submitted[]]> {
  const groups = new Map<Account, Submitted[]>();
  for (const submitted of queue) {
    const group = groups.get(submitted.exchange.account);
    if (group === undefined) groups.set(submitted.exchange.account, [submitted]);
    else group.push(submitted);
  }
  return groups;
}

/** A first-in-first-out queue with operations in constant time. */
class Fifo<T> {
  private items: T[] = [];
  private head = 0;

  get size(): number {
    return this.items.length - this.head;
  }
  push(item: T): void {
    this.items.push(item);
  }
  peek(): T | undefined {
    return this.items[this.head];
  }
  shift(): void {
    this.head += 1;
    if (this.head === this.items.length) this.clear();
    else if (this.head > 1_024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
  }
  clear(): void {
    this.items = [];
    this.head = 0;
  }
  *[Symbol.iterator](): Iterator<T> {
    for (let i = this.head; i < this.items.length; i++) yield this.items[i] as T;
  }
}
