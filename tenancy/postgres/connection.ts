/**
 * One connection to the server, on which several statements may be under way. Each is sent as a group of messages that ends in
 * one Sync: first the statement that enters the tenant, then the product's. The server runs a group as one transaction, so the
 * tenant of a group ends with it, whatever happens. That holds behind PgBouncer in transaction mode too.
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
  /** The name in pg_stat_activity. */
  readonly name: string;
  /** Whether statements are prepared. Off, nothing stays in the server after a statement, as PgBouncer before 1.22.1 needs it. */
  readonly prepare: boolean;
  readonly preparedPerConnection: number;
  readonly connectTimeoutMs: number;
  /** The most that the rows of one statement may have, in bytes as they come from the server. */
  readonly maxResultBytes: number;
  /** The time-out for statements that is set for the session, where no pooler is in between, in ms; 0 for none. */
  readonly statementTimeoutMs: number;
}

/** A statement that goes ahead of the product's in the same group. Its rows are dropped. */
export interface Ahead {
  readonly text: string;
  readonly values?: readonly (string | null)[];
  /** Whether its text is the same on every use, so that it is worth preparing. */
  readonly constant?: boolean;
}

/** The connection broke before a statement was answered, so it may or may not have run. Its caller decides whether to repeat it. */
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
  /** Names of the prepared statements that go ahead, by text. They are prepared once for each connection. */
  readonly #constants = new Map<string, string>();
  /** Resolves when the connection has ended, whoever ended it. */
  readonly closed: Promise<void>;
  /** Groups of one turn of the event loop are sent in one write. */
  readonly #outbox: Buffer[] = [];
  readonly #send = (whole: Buffer): void => {
    if (this.#outbox.push(whole) === 1) setImmediate(() => this.#flush());
  };
  #headSince = 0;
  /** The oldest statement under way, once it has been written. */
  #written: Group | undefined;
  /** Called when a statement under way has ended. */
  onRoom: (() => void) | undefined;
  #usable = true;
  #status = 'I';
  /** Whether the server has refused the present group and is not yet ready for the next. */
  #refusing = false;
  /** Tells the caller of that group. */
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

  /** @param constants the texts of statements that will go ahead of others, to be prepared at once */
  static async open(options: ConnectionOptions, constants: readonly string[]): Promise<Connection> {
    const client = new pg.Client({
      connectionString: options.url,
      application_name: options.name,
      connectionTimeoutMillis: options.connectTimeoutMs,
      keepAlive: true,
      pipeline: true,
    });
    const connection = new Connection(client, options);
    // The time limit includes the preparing after the login, which might never end otherwise.
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
   * Whether the server's session is ours alone, with no pooler in between that gives it to others. Then settings of the session,
   * such as its time-out for statements, stay.
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
  /** Whether it is usable, outside of a transaction, and has nothing under way. */
  get idle(): boolean {
    return this.#usable && this.#sent.length === 0 && this.#status === 'I';
  }
  /** For how long the server has been at the oldest statement under way, in ms. */
  headAge(now: number): number {
    return this.#sent.length === 0 ? 0 : now - this.#headSince;
  }
  /** The ids that a cancel request has to name. */
  get backend(): { readonly processID: number; readonly secretKey: number } {
    return this.#client as unknown as { processID: number; secretKey: number };
  }
  get client(): pg.Client {
    return this.#client;
  }

  /**
   * Sends one group. If one statement of it fails, all of it fails.
   * @param whole sends all statements as text and uses none that was prepared
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
          if (this.#written === group) this.#written = undefined;
          if (error) reject(this.#usable && !isFarewell(error) ? error : asLost(error));
          else resolve(result);
          this.onRoom?.();
        };
        if (error) {
          this.#prepared?.failed(group.prepared, error);
          // Another tenant was left behind in the session: give the connection up. Where the product's own statement causes this
          // error, only that statement fails.
          if (group.entering && isOurs(error, SQLSTATE.otherTenant)) this.destroy();
        }
        // The error comes before the rollback is done. If we sent more before that, PgBouncer before 1.22.1 would give the answer
        // to another client. So the caller is told only when the server is ready again.
        if (this.#refusing && this.#usable) this.#refused = end;
        else end();
      });
      if (!this.#usable) return reject(asLost(new Error('it is closed')));
      if (this.#sent.length === 0) this.#headSince = performance.now();
      this.#sent.push(group);
      this.#client.query(group as unknown as pg.Submittable);
    });
  }

  /** Ends the connection at once. What is under way is rejected. */
  destroy(): void {
    this.#usable = false;
    this.#wire.stream.destroy();
  }

  /** Ends the connection when what is under way is done. */
  async end(): Promise<void> {
    this.#usable = false;
    const farewell = setInterval(() => {
      // Nothing is under way, and the server does not close the connection.
      if (this.#sent.length === 0) this.destroy();
    }, FAREWELL_MS);
    await this.#client.end().catch(() => undefined);
    await this.closed;
    clearInterval(farewell);
  }

  /** Joins the buffers, since writing one costs the system less than writing a list. */
  #flush(): void {
    const [head] = this.#sent;
    // A process may stand still between a statement and its being written: that is no time of the server's.
    if (head !== this.#written) this.#headSince = performance.now();
    this.#written = head;
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

  /** Fails the statement whose answer is being read. Those behind it are lost with the connection. */
  #unreadable(cause: unknown): void {
    const refused = new TenantryError(
      'STORE_REFUSED',
      { store: 'PostgreSQL', reason: 'its answer cannot be read' },
      { cause },
    );
    this.#sent[0]?.handleError(refused, this.#wire);
    this.destroy();
  }

  /** Finds out whether there is a pooler, and prepares what every statement needs, before the first one is sent. */
  async #prepare(options: ConnectionOptions, constants: readonly string[]): Promise<void> {
    const [{ rows }] = await Promise.all([
      this.#client.query<{ pid: string }>({ text: 'SELECT pg_backend_pid()::text AS pid', types: AS_TEXT }),
      ...constants.map((text, at) => this.#prepareConstant(text, `tenantry_${at}`)),
    ]);
    // A pooler gives each of its clients an id of its own for cancelling, which is not the server's process id.
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
 * Whether an error is the last one on a connection: the server is going down or has terminated it, or PgBouncer gives it up because
 * its own connection to the server broke. The server says 08P01 for wrong parameters of a statement too, but that is not FATAL.
 */
function isFarewell(error: Error): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  const { code = '', severity } = error;
  return /^57P0[1-5]$/.test(code) || (code === '08P01' && severity === 'FATAL');
}

function asLost(error: Error): Error {
  // The server has answered the statement with this error before the connection broke.
  if (error instanceof pg.DatabaseError && !isFarewell(error)) return error;
  const cause = new ConnectionLost(
    'The connection broke before the answer came; the statement may have run.',
    {
      cause: error,
    },
  );
  return new TenantryError('STORE_UNAVAILABLE', { store: 'PostgreSQL' }, { cause });
}
