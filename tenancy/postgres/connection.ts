/**
 * One connection to the server, on which several statements may be under way. Each goes out as one message group that
 * ends in one Sync: who it is for, then the statement. The server runs a group as one transaction, so the tenant of a
 * group ends with it, whatever happens; that is why it also holds behind PgBouncer in transaction mode.
 */
import pg from 'pg';
import { TenantryError } from '../../domain/errors.js';
import { SQLSTATE } from './context-sql.js';
import { type Prepared, PreparedStatements } from './prepared.js';
import {
  type Parameter,
  guardReading,
  preparedGroup,
  runBytes,
  type Wire,
  wireOf,
  WireQuery,
} from './wire.js';

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
}

/** A statement of the product's, as it is sent. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly Parameter[] | undefined;
  readonly rowMode?: 'array' | undefined;
  readonly types?: pg.CustomTypesConfig | undefined;
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
  readonly #prepared: PreparedStatements | undefined;
  readonly #maxResultBytes: number;
  /** Of the statements that go ahead, by text: prepared once for each connection. */
  readonly #constants = new Map<string, string>();
  readonly #closed: Promise<void>;
  #corked = false;
  /** Whole groups of this turn, ahead of what is written after them. */
  readonly #outbox: Buffer[] = [];
  readonly #out: Out = {
    push: (whole) => void this.#outbox.push(whole),
    flush: () => this.#flush(),
  };
  #headSince = 0;
  #usable = true;
  #status = 'I';

  private constructor(client: pg.Client, options: ConnectionOptions) {
    this.#client = client;
    this.#wire = wireOf(client);
    this.#prepared = options.prepare ? new PreparedStatements(options.preparedPerConnection) : undefined;
    this.#maxResultBytes = options.maxResultBytes;
    this.#closed = new Promise((resolve) => client.once('end', resolve));
    client.on('error', () => {
      this.#usable = false;
    });
    client.on('end', () => {
      this.#usable = false;
    });
    this.#wire.on('parseComplete', () => this.#sent[0]?.parsed());
    this.#wire.on('readyForQuery', ({ status }) => {
      this.#status = status;
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
    try {
      await client.connect();
      guardReading(connection.#wire, (error) => connection.#unreadable(error));
      if (options.prepare) for (const text of constants) await connection.#prepareConstant(text);
    } catch (error) {
      connection.destroy();
      throw new TenantryError('STORE_UNAVAILABLE', { store: 'PostgreSQL' }, { cause: error });
    }
    return connection;
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
      const bytes = ahead.map((step) => this.#bytesOf(whole ? { ...step, constant: false } : step));
      const cache = whole ? undefined : this.#prepared;
      const limit = this.#maxResultBytes;
      const group = new Group(this.#out, bytes, statement, cache, limit, (error, result) => {
        const at = this.#sent.indexOf(group);
        if (at >= 0) this.#sent.splice(at, 1);
        this.#headSince = performance.now();
        if (!error) return resolve(result);
        this.#prepared?.failed(group.prepared, error);
        // Left behind in the session by somebody else. In the statement itself it is that statement's own doing.
        if (group.entering && isOurs(error, SQLSTATE.otherTenant)) this.destroy();
        reject(this.#usable && !isFarewell(error) ? error : asLost(error));
      });
      if (!this.#usable) return reject(asLost(new Error('it is closed')));
      if (this.#sent.length === 0) this.#headSince = performance.now();
      this.#sent.push(group);
      this.#cork();
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
    await this.#closed;
    clearInterval(farewell);
  }

  /** Groups of one turn of the event loop leave in one write. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#wire.stream.cork();
    setImmediate(() => {
      this.#corked = false;
      this.#flush();
      this.#wire.stream.uncork();
    });
  }

  /** One buffer costs the system less than a list of them. */
  #flush(): void {
    const [first, ...more] = this.#outbox.splice(0);
    if (first !== undefined)
      this.#wire.stream.write(more.length === 0 ? first : Buffer.concat([first, ...more]));
  }

  #bytesOf(step: Ahead): Buffer {
    const { text, values, constant } = step;
    const name = constant === true ? this.#constants.get(text) : undefined;
    if (name === undefined) return runBytes({ text }, values);
    // The same on every connection, since each prepares the same constants in the same order.
    let bytes = encoded.get(step);
    if (bytes === undefined) encoded.set(step, (bytes = runBytes({ name }, values)));
    return bytes;
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

  async #prepareConstant(text: string): Promise<void> {
    const name = `tenantry_${this.#constants.size}`;
    await new Promise<void>((resolve, reject) => {
      const preparation = new Preparation(name, text, (error) => (error ? reject(error) : resolve()));
      this.#client.query(preparation as unknown as pg.Submittable);
    });
    this.#constants.set(text, name);
  }
}

/** Of the steps that a caller keeps, such as the way into its tenant. */
const encoded = new WeakMap<Ahead, Buffer>();

/** Where groups go that are one buffer. What is written in another way comes after a flush. */
interface Out {
  push(whole: Buffer): void;
  flush(): void;
}

/** What goes ahead, the product's statement if there is one, and Sync. */
class Group extends WireQuery {
  readonly #out: Out;
  readonly #bytes: readonly Buffer[];
  readonly #statement: Statement | undefined;
  readonly #values: readonly Parameter[];
  readonly #cache: PreparedStatements | undefined;
  #bytesLeft: number;
  #ahead: number;
  prepared: Prepared | undefined;

  constructor(
    out: Out,
    bytes: readonly Buffer[],
    statement: Statement | undefined,
    cache: PreparedStatements | undefined,
    maxResultBytes: number,
    callback: (error: Error | null | undefined, result: pg.QueryResult) => void,
  ) {
    const { text = '', rowMode, types } = statement ?? {};
    // Of an object it makes a copy, property by property, which costs more than all else here.
    super(
      rowMode === undefined && types === undefined ? text : { text, rowMode, types },
      undefined,
      callback,
    );
    this.#out = out;
    this.#bytes = bytes;
    this.#statement = statement;
    this.#values = statement?.values ?? [];
    this.#cache = cache;
    this.#bytesLeft = maxResultBytes;
    this.#ahead = bytes.length;
  }

  /** What goes ahead is not done. */
  get entering(): boolean {
    return this.#ahead > 0;
  }

  override requiresPreparation(): boolean {
    return true;
  }

  override prepare(wire: Wire): void {
    const dropped = this.#cache?.takeDropped() ?? [];
    if (dropped.length > 0) this.#out.flush();
    // First: after an error in the group the server would not read it.
    for (const name of dropped) wire.close({ type: 'S', name });
    if (this.#statement !== undefined) this.prepared = this.#cache?.use(this.#statement.text);
    if (this.prepared?.state === 'ready') {
      this.#out.push(preparedGroup(this.#bytes, this.prepared.name, this.#values));
      return;
    }
    this.#out.flush();
    for (const bytes of this.#bytes) wire.stream.write(bytes);
    if (this.#statement !== undefined) {
      const { text } = this.#statement;
      wire.parse({ text, name: this.prepared?.name ?? '' });
      wire.bind({ portal: '', statement: this.prepared?.name ?? '', values: this.#values });
      wire.describe({ type: 'P', name: '' });
      wire.execute({ portal: '' });
    }
    wire.sync();
  }

  /** ParseComplete has come. What goes ahead may have had its own, without a name. */
  parsed(): void {
    if (this.#ahead === 0 && this.prepared !== undefined) this.prepared.state = 'ready';
  }

  /** What the caller's own `types` throw is this statement's failure, and nobody else's. */
  override handleRowDescription(message: unknown): void {
    try {
      super.handleRowDescription(message);
    } catch (error) {
      this._canceledDueToError = error;
    }
  }

  override handleDataRow(message: { readonly length: number }): void {
    if (this.#ahead > 0) return;
    this.#bytesLeft -= message.length;
    if (this.#bytesLeft < 0 && this._canceledDueToError === false) {
      this._canceledDueToError = new TenantryError('STORE_REFUSED', {
        store: 'PostgreSQL',
        reason: 'its rows are more than may be held in memory',
      });
      this._result.rows.length = 0;
    }
    super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, wire: Wire): void {
    if (this.#ahead > 0) this.#ahead -= 1;
    else super.handleCommandComplete(message, wire);
  }
}

class Preparation extends WireQuery {
  readonly #name: string;
  readonly #text: string;

  constructor(name: string, text: string, callback: (error: Error | null | undefined) => void) {
    super({ text }, undefined, callback);
    this.#name = name;
    this.#text = text;
  }
  override requiresPreparation(): boolean {
    return true;
  }
  override prepare(wire: Wire): void {
    wire.parse({ text: this.#text, name: this.#name });
    wire.sync();
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
