/**
 * One connection to the server, on which several statements may be under way. Each goes out as one message group that
 * ends in one Sync: who it is for, then the statement. The server runs a group as one transaction, so the tenant of a
 * group ends with it, whatever happens; that is why it also holds behind PgBouncer in transaction mode.
 */
import pg from 'pg';
import { AS_TEXT } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import { SQLSTATE } from './context-sql.js';
import { Group, Preparation, type Statement } from './group.js';
import { PreparedStatements } from './prepared.js';
import { guardReading, type Step, type Wire, wireOf } from './wire.js';

export interface ConnectionOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly name: string;
  /** Off: nothing stays in the server after a statement, as PgBouncer before 1.22.1 wants it. */
  readonly prepare: boolean;
  readonly preparedPerConnection: number;
  readonly connectTimeoutMs: number;
  /** Of one statement's rows, as they come from the server. */
  readonly maxResultBytes: number;
  /** What a session of our own gives a statement, in ms; 0 for none. */
  readonly statementTimeoutMs: number;
}

/** A statement that goes ahead of the product's in the same group; its rows are not wanted. */
export interface Ahead {
  readonly text: string;
  readonly values?: readonly (string | null)[];
  /** Worth preparing: the same on every use. */
  readonly constant?: boolean;
}

/** Why a statement that was sent has no answer: it may or may not have run. Whether to repeat it, its caller knows. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
}

/** How long the server may take to close a connection that has been ended. */
const FAREWELL_MS = 2_000;

export class Connection {
  readonly #client: pg.Client;
  readonly #wire: Wire;
  readonly #sent: Group[] = [];
  #prepared: PreparedStatements | undefined;
  #ownSession = false;
  readonly #maxResultBytes: number;
  /** Of the statements that go ahead, by text: prepared once for each connection. */
  readonly #constants = new Map<string, string>();
  /** Resolves when it has ended, whoever ended it. */
  readonly closed: Promise<void>;
  /** Groups of one turn of the event loop leave in one write. */
  readonly #outbox: Buffer[] = [];
  readonly #send = (whole: Buffer): void => {
    if (this.#outbox.push(whole) === 1) setImmediate(() => this.#flush());
  };
  #headSince = 0;
  /** Called when a statement under way has ended. */
  onRoom: (() => void) | undefined;
  #usable = true;
  #status = 'I';
  /** The server has refused the group that it is at, and has not yet said that it is ready for the next. */
  #refusing = false;
  /** Ends that group for its caller. */
  #refused: (() => void) | undefined;

  private constructor(client: pg.Client, options: ConnectionOptions) {
    this.#client = client;
    this.#wire = wireOf(client);
    this.#maxResultBytes = options.maxResultBytes;
    this.closed = new Promise((resolve) => client.once('end', resolve));
    client.on('error', () => {
      this.#usable = false;
    });
    client.on('end', () => {
      this.#usable = false;
      this.#endRefusal();
    });
    this.#wire.on('parseComplete', () => this.#sent[0]?.parsed());
    this.#wire.on('errorMessage', () => {
      this.#refusing = true;
    });
    this.#wire.on('readyForQuery', ({ status }) => {
      this.#status = status;
      this.#endRefusal();
    });
  }

  /** @param constants statements that will go ahead of others, known beforehand */
  static async open(options: ConnectionOptions, constants: readonly string[]): Promise<Connection> {
    const client = new pg.Client({
      connectionString: options.url,
      application_name: options.name,
      connectionTimeoutMillis: options.connectTimeoutMs,
      keepAlive: true,
      pipeline: true,
    });
    const connection = new Connection(client, options);
    // Also of what is prepared when it has logged in: one that is never open would be waited for for ever.
    const late = setTimeout(() => connection.destroy(), options.connectTimeoutMs);
    try {
      await client.connect();
      guardReading(connection.#wire, {
        longestRow: options.maxResultBytes,
        onRow: () => connection.#sent[0]?.tooMuch(),
        failed: (error) => connection.#unreadable(error),
      });
      if (options.prepare) await connection.#prepare(options, constants);
    } catch (error) {
      connection.destroy();
      throw new TenantryError('STORE_UNAVAILABLE', { store: 'PostgreSQL' }, { cause: error });
    } finally {
      clearTimeout(late);
    }
    return connection;
  }

  /**
   * No pooler is in between, which would give the session to others and another one to us: what is set for the session
   * stays, as its time-out for a statement does.
   */
  get ownSession(): boolean {
    return this.#ownSession;
  }
  get usable(): boolean {
    return this.#usable;
  }
  get inFlight(): number {
    return this.#sent.length;
  }
  /** Not in a transaction, nothing under way. */
  get idle(): boolean {
    return this.#usable && this.#sent.length === 0 && this.#status === 'I';
  }
  /** How long the oldest statement under way has been waited for since those before it were done, in ms. */
  headAge(now: number): number {
    return this.#sent.length === 0 ? 0 : now - this.#headSince;
  }
  /** What a cancel request names. */
  get backend(): { readonly processID: number; readonly secretKey: number } {
    return this.#client as unknown as { processID: number; secretKey: number };
  }
  get client(): pg.Client {
    return this.#client;
  }

  /**
   * Sends one group. What fails in it fails all of it.
   * @param whole relies on nothing that was prepared
   * @throws pg.DatabaseError what the server says; TenantryError STORE_UNAVAILABLE with a ConnectionLost as its cause
   */
  run(ahead: readonly Ahead[], statement?: Statement, whole = false): Promise<pg.QueryResult> {
    return new Promise((resolve, reject) => {
      const steps = ahead.map((step) => this.#stepOf(step, whole));
      const cache = whole ? undefined : this.#prepared;
      const limit = this.#maxResultBytes;
      const group = new Group(this.#send, steps, statement, cache, limit, (error, result) => {
        const end = (): void => {
          const at = this.#sent.indexOf(group);
          if (at >= 0) this.#sent.splice(at, 1);
          this.#headSince = performance.now();
          if (error) reject(this.#usable && !isFarewell(error) ? error : asLost(error));
          else resolve(result);
          this.onRoom?.();
        };
        if (error) {
          this.#prepared?.failed(group.prepared, error);
          // Left behind in the session by somebody else. In the statement itself it is that statement's own doing.
          if (group.entering && isOurs(error, SQLSTATE.otherTenant)) this.destroy();
        }
        // It tells why before it has rolled back. What is sent to PgBouncer before 1.22.1 by then is answered to others.
        if (this.#refusing && this.#usable) this.#refused = end;
        else end();
      });
      if (!this.#usable) return reject(asLost(new Error('it is closed')));
      if (this.#sent.length === 0) this.#headSince = performance.now();
      this.#sent.push(group);
      this.#client.query(group as unknown as pg.Submittable);
    });
  }

  /** Ends it at once; what is under way is rejected. */
  destroy(): void {
    this.#usable = false;
    this.#wire.stream.destroy();
  }

  /** Says goodbye when what is under way is done. */
  async end(): Promise<void> {
    this.#usable = false;
    const farewell = setInterval(() => {
      // The server has nothing more to say, and does not say that either.
      if (this.#sent.length === 0) this.destroy();
    }, FAREWELL_MS);
    await this.#client.end().catch(() => undefined);
    await this.closed;
    clearInterval(farewell);
  }

  /** One buffer costs the system less than a list of them. */
  #flush(): void {
    const [first, ...more] = this.#outbox.splice(0);
    if (first !== undefined)
      this.#wire.stream.write(more.length === 0 ? first : Buffer.concat([first, ...more]));
  }

  #endRefusal(): void {
    const end = this.#refused;
    [this.#refusing, this.#refused] = [false, undefined];
    end?.();
  }

  #stepOf({ text, values = [], constant }: Ahead, whole: boolean): Step {
    const name = constant === true && !whole ? this.#constants.get(text) : undefined;
    return name === undefined ? { text, values } : { name, values };
  }

  /** The answer that is just being read. Those behind it are lost with the connection. */
  #unreadable(cause: unknown): void {
    const refused = new TenantryError(
      'STORE_REFUSED',
      { store: 'PostgreSQL', reason: 'its answer cannot be read' },
      { cause },
    );
    this.#sent[0]?.handleError(refused, this.#wire);
    this.destroy();
  }

  /** What every statement rests on. Before the first one, since a pooler is known by what it answers. */
  async #prepare(options: ConnectionOptions, constants: readonly string[]): Promise<void> {
    const [{ rows }] = await Promise.all([
      this.#client.query<{ pid: string }>({ text: 'SELECT pg_backend_pid()::text AS pid', types: AS_TEXT }),
      ...constants.map((text, at) => this.#prepareConstant(text, `tenantry_${at}`)),
    ]);
    // A pooler gives each of its clients a number of its own to cancel by.
    this.#ownSession = rows[0]?.pid === String(this.backend.processID);
    if (this.#ownSession)
      await this.#client.query(`SET statement_timeout = ${Math.ceil(options.statementTimeoutMs)}`);
    this.#prepared = new PreparedStatements(options.preparedPerConnection, this.#ownSession);
  }

  async #prepareConstant(text: string, name: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const preparation = new Preparation(name, text, (error) => (error ? reject(error) : resolve()));
      this.#client.query(preparation as unknown as pg.Submittable);
    });
    this.#constants.set(text, name);
  }
}

const isOurs = (error: Error, code: string): boolean =>
  error instanceof pg.DatabaseError && error.code === code;

/**
 * Last words on a connection: the server is going down, or has terminated it; or PgBouncer gives it up because its own
 * connection to the server broke. The server says 08P01 too, of a statement's wrong parameters, but then it goes on.
 */
function isFarewell(error: Error): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  const { code = '', severity } = error;
  return /^57P0[1-5]$/.test(code) || (code === '08P01' && severity === 'FATAL');
}

function asLost(error: Error): Error {
  // A refusal that came before the connection went.
  if (error instanceof pg.DatabaseError && !isFarewell(error)) return error;
  const cause = new ConnectionLost(
    'The connection broke before the answer came; the statement may have run.',
    {
      cause: error,
    },
  );
  return new TenantryError('STORE_UNAVAILABLE', { store: 'PostgreSQL' }, { cause });
}
