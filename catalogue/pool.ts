/** Connection pools: one shape for every PostgreSQL that Tenantry talks to. */
import { types as kindOf } from 'node:util';
import pg from 'pg';
import { TenantryError } from '../domain/errors.js';
import { isSystemError } from '../domain/system-error.js';

export interface PoolOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly name: string;
  readonly max: number;
  /** Milliseconds after which the server gives up a statement. */
  readonly statementTimeout?: number;
  /**
   * Milliseconds after which the server ends a transaction in which nothing happens; 0: never. A machine that vanishes without a
   * word would otherwise keep its locks until the system's keepalive, two hours by default.
   */
  readonly idleInTransaction?: number;
  /**
   * How its rows are read, for a pool in somebody else's process: the driver's own ways (`pg.types.setTypeParser`) are one set
   * for all who use it there, and so is whether values come as text.
   */
  readonly types?: pg.CustomTypesConfig;
}

/** Every value as the text that it came as; what is none (a uuid that came in binary) is cast in its statement. */
export const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => String };

/** How long the server may take to close a connection that has been ended. */
const FAREWELL_MS = 1_000;

/**
 * Its end does not wait for ever for a server that hangs and does not say goodbye: each connection that was given up for that
 * would stay open, and keep the process from ending.
 */
export class Client extends pg.Client {
  override end(): Promise<void>;
  override end(callback: (error: Error) => void): void;
  override end(callback?: (error: Error) => void): Promise<void> | void {
    const { stream } = this.connection;
    if (!stream.destroyed) {
      const late = setTimeout(() => stream.destroy(), FAREWELL_MS).unref();
      stream.once('close', () => clearTimeout(late));
    }
    return callback === undefined ? super.end() : super.end(callback);
  }
}

/** A pool whose idle connections may be cut by a server restart without ending the process. */
export function createPool({
  url,
  name,
  max,
  statementTimeout = 15_000,
  idleInTransaction = 20_000,
  types,
}: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    Client,
    connectionString: url,
    application_name: name,
    max,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    statement_timeout: statementTimeout,
    idle_in_transaction_session_timeout: idleInTransaction,
    // The server may hang without closing: give up a little after it should have.
    query_timeout: statementTimeout + 2_000,
    keepAlive: true,
    options: '-c search_path=tenantry',
    ...(types && { types }),
  });
  // The pool removes the broken client by itself; the next query connects again or fails clearly.
  pool.on('error', () => undefined);
  return pool;
}

/** Runs `work` in one transaction. A client whose connection broke is not given back to the pool. */
export async function transaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // Without a listener a connection that dies between two queries would end the process.
  const onError = (error: Error): void => {
    broken = error;
  };
  client.on('error', onError);
  try {
    await client.query('BEGIN');
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    // Where that was not answered, neither would this be, and its caller would wait twice as long.
    if (isUnanswered(error)) broken = error;
    else
      await client.query('ROLLBACK').catch((rollbackError: Error) => {
        broken = rollbackError;
      });
    throw error;
  } finally {
    client.off('error', onError);
    client.release(broken);
  }
}

const isUnanswered = (error: unknown): error is Error =>
  kindOf.isNativeError(error) && error.message === 'Query read timeout';

/** Whether the server could not be reached or was going down, so that the same statement may succeed later. */
export function isPostgresOutage(error: unknown): boolean {
  if (!kindOf.isNativeError(error)) return false;
  if ('errors' in error && Array.isArray(error.errors)) return error.errors.some(isPostgresOutage);
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  // Classes: 08 connection, 53 resources, 57 operator intervention (restart, cancelled); 40 serialisation, deadlock;
  // 25006 read-only (a standby just promoted elsewhere); 25P03 a transaction that stood still, 25P04 one that took too
  // long (transaction_timeout, 17 and later); 55P03 lock not available.
  if (/^(08|53|57|40)/.test(code) || ['25006', '25P03', '25P04', '55P03'].includes(code)) return true;
  if (isSystemError(error)) return true;
  return /Connection terminated|timeout exceeded when trying to connect|Query read timeout|not queryable/i.test(
    error.message,
  );
}

/** A failure of the catalogue as an error of the table: an outage may be tried again, anything else is a bug. */
export function catalogueError(error: unknown): unknown {
  return isPostgresOutage(error) ? new TenantryError('CATALOGUE_UNAVAILABLE', {}, { cause: error }) : error;
}
