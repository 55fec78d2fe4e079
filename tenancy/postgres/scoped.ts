/**
 * PostgreSQL as one tenant. Each statement goes to the server together with the tenant that it is for, in one round
 * trip and one transaction, and the policies of the tables hold it to that tenant's rows.
 */
import type { CustomTypesConfig, Pool, QueryResult, QueryResultRow } from 'pg';
import type { TenantId } from '../../domain/ids.js';
import { outsideTenants, refuseOtherTenants, type TenantContext } from '../context/tenant-context.js';
import { refuseOtherThanPositive, wholeSettings } from '../positive.js';
import { reasonOf, untilAborted } from '../signal.js';
import { type Ahead, Connection, type ConnectionOptions } from './connection.js';
import { ENTER, ENTER_ALONE, ENTER_ALONE_WITH_TOKEN, ENTER_WITH_TOKEN } from './context-sql.js';
import { configOf, type Limits, limitsOf, statementOf } from './given.js';
import { InteractivePool } from './interactive.js';
import { Lanes } from './lanes.js';
import { TenantPool } from './pool-shape.js';
import { isStalePlan } from './prepared.js';
import { rolledBack } from './refused.js';
import { admitStatement } from './statement.js';
import { createTokenSource, type TokenSourceOptions } from './token.js';
import {
  type Enter,
  isLonger,
  modesOf,
  Transaction,
  type TransactionOptions,
  withinGrace,
} from './transaction.js';

export interface ScopedPostgresOptions {
  /** As the runtime role. */
  readonly url: string;
  /** Shown in pg_stat_activity. Default `tenantry-product`. */
  readonly name?: string | undefined;
  /** Connections that single statements share, at most. Default 4: a few are faster than many. */
  readonly connections?: number | undefined;
  /** Connections for transactions and for statements with a signal or `dedicated`, at most. Default 8. */
  readonly interactive?: number | undefined;
  /** In ms; 0 for none. Default 15 s. */
  readonly statementTimeoutMs?: number | undefined;
  /** After which the server ends a transaction that says nothing, in ms. Default 60 s. */
  readonly transactionIdleMs?: number | undefined;
  /**
   * How long after its begin a transaction in repeatable read or serializable is cut, and any other after it has
   * declared a cursor, in ms; 0 for never. A suspension does not reach them: they see the gate as it was then. Default 60 s.
   */
  readonly snapshotMs?: number | undefined;
  /** How long to wait for a connection, in ms. Default 5 s. */
  readonly acquireTimeoutMs?: number | undefined;
  /** Off behind PgBouncer before 1.22.1, or with its max_prepared_statements at 0. Default on. */
  readonly prepare?: boolean | undefined;
  /** Statements that a connection keeps prepared. Default 128. */
  readonly preparedPerConnection?: number | undefined;
  /**
   * Statements under way on one shared connection. Default 64; 1 if `prepare` is off: when a connection with several is cut,
   * PgBouncer before 1.22.1 gives their answers to another client.
   */
  readonly maxInFlight?: number | undefined;
  /** Statements that may wait for room. Default 1,000. */
  readonly maxQueued?: number | undefined;
  /**
   * Rows of one statement, in bytes as they come from the server. What returns more fails, so that it cannot fill the memory
   * of the process. Default 256 MB.
   */
  readonly maxResultBytes?: number | undefined;
  /** Given if the manifest says `postgres.hardened`. */
  readonly hardened?: TokenSourceOptions | undefined;
}

export interface ScopedPostgresPool {
  forTenant(context: Pick<TenantContext, 'tenantId'>): ScopedPostgres;
  /** Waits for statements under way; transactions that are still open are cut. */
  close(): Promise<void>;
}

export interface ScopedQueryConfig extends Limits {
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
  readonly rowMode?: 'array' | undefined;
  /** Called when the answer is there, as no tenant. */
  readonly types?: CustomTypesConfig | undefined;
  /** On a connection of its own: for what is slow or returns much, which would hold up others' statements. */
  readonly dedicated?: boolean | undefined;
}

export interface ScopedPostgres {
  /**
   * One statement, one round trip. With `signal` or `dedicated` on a connection of its own, else on a shared one.
   * @throws TenantryError STATEMENT_REFUSED or NESTED_TENANT_CONTEXT before it is sent, CLIENTS_EXHAUSTED, or
   *   STORE_UNAVAILABLE, which after sending has a ConnectionLost as its cause: the statement may have run.
   *   pg.DatabaseError for what the server says.
   */
  query<R extends QueryResultRow = QueryResultRow>(
    textOrConfig: string | ScopedQueryConfig,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;
  /**
   * COMMIT when `work` is done, ROLLBACK when it throws. The handle is dead afterwards.
   * @throws as `query`, what `work` throws, and STORE_REFUSED when a failed statement was swallowed in `work`
   */
  transaction<T>(work: (tx: ScopedTransaction) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /** For Kysely, Drizzle and others that take a pg.Pool. */
  readonly pool: Pool;
}

export interface ScopedTransaction {
  query<R extends QueryResultRow = QueryResultRow>(
    textOrConfig: string | Omit<ScopedQueryConfig, 'dedicated'>,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;
}

/** @throws RangeError of a setting that is no such number */
export function createScopedPostgres(options: ScopedPostgresOptions): ScopedPostgresPool {
  const { url, name = 'tenantry-product', prepare = true } = options;
  const settings = settingsOf(options, prepare);
  const { statementTimeoutMs, acquireTimeoutMs, preparedPerConnection, maxResultBytes } = settings;
  const connection: ConnectionOptions = {
    url,
    name,
    prepare,
    preparedPerConnection,
    connectTimeoutMs: acquireTimeoutMs,
    maxResultBytes,
    statementTimeoutMs,
  };
  const ways = options.hardened === undefined ? BY_ID : BY_TOKEN;
  // A connection's events run as no tenant, not as the one that needed the connection first.
  const open = (): Promise<Connection> =>
    outsideTenants(() => Connection.open(connection, [ways.within, ways.alone]));
  const lanes = new Lanes(open, settings);
  const interactive = new InteractivePool(open, settings);
  const shared: Shared = { ...settings, lanes, interactive };
  const enterAs = entering(
    ways,
    options.hardened === undefined ? (tenant) => tenant : createTokenSource(options.hardened),
  );
  return {
    forTenant: ({ tenantId }) =>
      new ScopedToTenant(shared, tenantId, (timeouts) => enterAs(tenantId, timeouts)),
    async close() {
      await Promise.all([lanes.close(), interactive.close()]);
    },
  };
}

function settingsOf(options: ScopedPostgresOptions, prepare: boolean) {
  const counts = wholeSettings(
    {
      connections: 4,
      interactive: 8,
      statementTimeoutMs: 15_000,
      transactionIdleMs: 60_000,
      snapshotMs: 60_000,
      acquireTimeoutMs: 5_000,
      preparedPerConnection: 128,
      maxInFlight: prepare ? 64 : 1,
      maxQueued: 1_000,
    },
    options,
    ['maxQueued', 'statementTimeoutMs', 'transactionIdleMs', 'snapshotMs'],
  );
  const { maxResultBytes = 2 ** 28 } = options;
  refuseOtherThanPositive('maxResultBytes', maxResultBytes);
  return { ...counts, maxResultBytes };
}

interface Shared {
  readonly lanes: Lanes;
  readonly interactive: InteractivePool;
  readonly statementTimeoutMs: number;
  readonly transactionIdleMs: number;
  readonly snapshotMs: number;
}

class ScopedToTenant implements ScopedPostgres {
  readonly #shared: Shared;
  readonly #tenantId: TenantId;
  readonly #enter: Enter;
  #pool: Pool | undefined;

  constructor(shared: Shared, tenantId: TenantId, enter: Enter) {
    this.#shared = shared;
    this.#tenantId = tenantId;
    this.#enter = enter;
  }

  get pool(): Pool {
    const source = {
      tenantId: this.#tenantId,
      scoped: this,
      begin: (modes: string) => this.#begin({ modes }),
    };
    this.#pool ??= new TenantPool(() => source) as unknown as Pool;
    return this.#pool;
  }

  async query<R extends QueryResultRow = QueryResultRow>(
    textOrConfig: string | ScopedQueryConfig,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>> {
    refuseOtherTenants(this.#tenantId);
    const config = configOf(textOrConfig, values);
    const statement = statementOf(config);
    admitStatement(statement.text, 'alone');
    const { statementTimeoutMs, lanes } = this.#shared;
    const { signal, timeoutMs = statementTimeoutMs } = limitsOf(config);
    const onItsOwn =
      signal !== undefined || config.dedicated === true || isLonger(timeoutMs, statementTimeoutMs);
    for (let whole = false; ; whole = true) {
      const send = (connection: Connection): Promise<QueryResult> => {
        const usual = connection.ownSession && timeoutMs === statementTimeoutMs;
        const ahead = [this.#enter(usual ? undefined : { statementMs: timeoutMs })];
        return connection.run(ahead, statement, whole);
      };
      try {
        const result = onItsOwn ? this.#onItsOwn(send, timeoutMs, signal) : lanes.run(send);
        return (await result) as QueryResult<R>;
      } catch (error) {
        // The statement did not run. This time it is sent as text, not by the name of a prepared one.
        if (!whole && isStalePlan(error)) continue;
        // The stack of the caller, rather than of a socket's read.
        if (error instanceof Error && error !== reasonOf(signal)) Error.captureStackTrace(error);
        throw error;
      }
    }
  }

  async transaction<T>(
    work: (tx: ScopedTransaction) => Promise<T>,
    options: TransactionOptions = {},
  ): Promise<T> {
    refuseOtherTenants(this.#tenantId);
    const { signal, timeoutMs } = limitsOf(options);
    const transaction = await this.#begin({ modes: modesOf(options), signal, timeoutMs });
    const handle: ScopedTransaction = {
      query: async (textOrConfig, values) => {
        refuseOtherTenants(this.#tenantId);
        const config = configOf(textOrConfig, values);
        return transaction.query(config, config);
      },
    };
    return untilAborted(signal, finish(transaction, handle, work), () => transaction.cancel());
  }

  #begin(o: {
    readonly modes: string;
    readonly signal?: AbortSignal | undefined;
    readonly timeoutMs?: number | undefined;
  }): Promise<Transaction> {
    return Transaction.begin(this.#shared.interactive, this.#enter, {
      modes: o.modes,
      signal: o.signal,
      timeoutMs: o.timeoutMs ?? this.#shared.statementTimeoutMs,
      idleMs: this.#shared.transactionIdleMs,
      snapshotMs: this.#shared.snapshotMs,
    });
  }

  async #onItsOwn(
    send: (connection: Connection) => Promise<QueryResult>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<QueryResult> {
    const { interactive } = this.#shared;
    const connection = await interactive.acquire(signal);
    let over = false;
    const sent = withinGrace(connection, timeoutMs, () => send(connection)).finally(() => {
      // A connection under cancellation is released by it.
      if (!over) interactive.release(connection);
      over = true;
    });
    return untilAborted(signal, sent, () => {
      // The connection may serve somebody else by now.
      if (over) return false;
      over = true;
      interactive.cancel(connection);
      return true;
    });
  }
}

async function finish<T>(
  transaction: Transaction,
  handle: ScopedTransaction,
  work: (tx: ScopedTransaction) => Promise<T>,
): Promise<T> {
  let result: T;
  try {
    result = await work(handle);
  } catch (error) {
    await transaction.rollback();
    throw error;
  }
  const { command } = await transaction.commit();
  if (command === 'ROLLBACK') throw rolledBack();
  return result;
}

/** Statements that enter a tenant: with time-outs, and for a statement alone in a session that has the usual one. */
interface Ways {
  readonly within: string;
  readonly alone: string;
}
const BY_ID: Ways = { within: ENTER, alone: ENTER_ALONE };
const BY_TOKEN: Ways = { within: ENTER_WITH_TOKEN, alone: ENTER_ALONE_WITH_TOKEN };

/** @param named what the statement is told of a tenant: its id, or a token for it */
function entering({ within, alone }: Ways, named: (tenant: TenantId) => string): EnterAs {
  return (tenant, timeouts) =>
    timeouts === undefined
      ? { text: alone, values: [named(tenant)], constant: true }
      : {
          text: within,
          values: [named(tenant), msText(timeouts.statementMs), msText(timeouts.idleMs)],
          constant: true,
        };
}

type EnterAs = (tenant: TenantId, timeouts: Parameters<Enter>[0]) => Ahead;

const msText = (ms: number | undefined): string | null => (ms === undefined ? null : String(Math.ceil(ms)));
