/**
 * PostgreSQL in the shape of a pg.Pool, for Kysely, Drizzle and others. What such a tool says to begin and end a
 * transaction becomes a transaction of the tenant; outside of one each statement stands alone, and a client that was
 * connected holds no connection of the server.
 */
import { EventEmitter } from 'node:events';
import type { Pool, QueryResult } from 'pg';
import type { TenantId } from '../../domain/ids.js';
import { currentTenant, refuseOtherTenants } from '../context/tenant-context.js';
import { configOf } from './given.js';
import { refused, rolledBack } from './refused.js';
import type { ScopedPostgres, ScopedQueryConfig } from './scoped.js';
import { transactionCommand } from './statement.js';
import type { Transaction } from './transaction.js';

/**
 * The pool of whichever tenant is current at each use, so that one Kysely or Drizzle object, made when the process
 * starts, serves all tenants. A client that was connected stays the tenant's who connected it.
 * @throws TenantryError from each use: NO_TENANT_CONTEXT where there is no tenant, NESTED_TENANT_CONTEXT from a client
 *   that is used as another one
 */
export function tenantPool(): Pool {
  return new TenantPool(() => poolOf(currentTenant().pg)) as unknown as Pool;
}

type Callback<T> = (error: Error | null, result?: T, done?: () => void) => void;
type Begin = (modes: string) => Promise<Transaction>;

/** What a pool and its clients work with: one tenant. */
export interface PoolSource {
  readonly tenantId: TenantId;
  readonly scoped: ScopedPostgres;
  readonly begin: Begin;
}

/** Its name has Pool in it, which is how Drizzle knows one. */
export class TenantPool extends EventEmitter {
  readonly options = {};
  readonly totalCount = 0;
  readonly idleCount = 0;
  readonly waitingCount = 0;
  readonly expiredCount = 0;
  readonly ending = false;
  readonly ended = false;
  readonly #source: () => PoolSource;

  constructor(source: () => PoolSource) {
    super();
    this.#source = source;
  }

  query(...args: unknown[]): Promise<QueryResult> | undefined {
    const { config, callback } = argumentsOf(args);
    return answer(
      promised(() => this.source().scoped.query(config)),
      callback,
    );
  }

  connect(callback?: Callback<TenantPoolClient>): Promise<TenantPoolClient> | undefined {
    const connected = promised(() => new TenantPoolClient(this.source()));
    return answer(
      connected,
      callback && ((error, client) => callback(error, client, () => client?.release())),
    );
  }

  /** Nothing: the connections are shared with other tenants and closed with them. */
  end(callback?: () => void): Promise<void> | undefined {
    if (callback === undefined) return Promise.resolve();
    process.nextTick(callback);
    return undefined;
  }

  /** @throws TenantryError NO_TENANT_CONTEXT, NESTED_TENANT_CONTEXT */
  source(): PoolSource {
    const source = this.#source();
    refuseOtherTenants(source.tenantId);
    return source;
  }
}

class TenantPoolClient extends EventEmitter {
  readonly #source: PoolSource;
  #transaction: Transaction | undefined;
  /** Its BEGIN failed: what was meant for it must not run alone, until whoever asked for it ends it. */
  #neverBegan = false;
  /** One statement after the other, as on a client of pg. */
  #last: Promise<unknown> = Promise.resolve();
  #released = false;

  constructor(source: PoolSource) {
    super();
    this.#source = source;
  }

  query(...args: unknown[]): Promise<QueryResult> | undefined {
    const { config, callback } = argumentsOf(args);
    const result = promised(() => {
      // As of now: what was asked before its release still runs.
      if (this.#released) throw refused('its client has been released');
      refuseOtherTenants(this.#source.tenantId);
      return this.#inTurn(() => this.#run(config));
    });
    return answer(result, callback);
  }

  /** Rolls back what is open. Wherever it is called from: to give back is never wrong. */
  release(_destroy?: boolean | Error): void {
    if (this.#released) throw refused('its client has been released twice');
    this.#released = true;
    void this.#inTurn(() => this.#rollback());
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #run(config: ScopedQueryConfig): Promise<QueryResult> {
    const command = transactionCommand(config.text);
    switch (command?.kind) {
      case 'begin':
        if (this.#transaction !== undefined) throw refused('a transaction is open on this client');
        this.#neverBegan = true;
        this.#transaction = await this.#source.begin(command.modes);
        this.#neverBegan = false;
        return ended('BEGIN');
      case 'commit':
        return this.#commit();
      case 'rollback':
        await this.#rollback();
        return ended('ROLLBACK');
      case undefined:
        if (this.#neverBegan) throw refused('its transaction could not begin');
        return this.#transaction === undefined
          ? this.#source.scoped.query(config)
          : this.#transaction.query(config, config);
    }
  }

  /** To tools that do not look, PostgreSQL's answer to the COMMIT of a failed transaction is a success; here an error. */
  async #commit(): Promise<QueryResult> {
    const transaction = this.#transaction;
    this.#transaction = undefined;
    const neverBegan = this.#neverBegan;
    this.#neverBegan = false;
    const result = await transaction?.commit();
    if (neverBegan || result?.command === 'ROLLBACK') throw rolledBack();
    return result ?? ended('COMMIT');
  }

  async #rollback(): Promise<void> {
    const transaction = this.#transaction;
    this.#transaction = undefined;
    this.#neverBegan = false;
    await transaction?.rollback();
  }
}

const poolOf = (scoped: ScopedPostgres): PoolSource => (scoped.pool as unknown as TenantPool).source();

/** The ways in which pg takes a query: text or config, values, a callback last. */
function argumentsOf(args: readonly unknown[]): {
  config: ScopedQueryConfig;
  callback?: Callback<QueryResult>;
} {
  const callback = args.find((arg) => typeof arg === 'function') as Callback<QueryResult> | undefined;
  const [first, second] = args;
  const given = configOf(first as string | ScopedQueryConfig);
  const { text, values, rowMode, types, signal, timeoutMs, dedicated } = given;
  if (typeof text !== 'string') throw refused('it is not text with values');
  const config = {
    text,
    values: Array.isArray(second) ? (second as readonly unknown[]) : values,
    rowMode,
    types,
    signal,
    timeoutMs,
    dedicated,
  };
  return { config, ...(callback && { callback }) };
}

/** What `work` throws at once is told like what comes later. */
const promised = async <T>(work: () => T | Promise<T>): Promise<T> => work();

function answer<T>(result: Promise<T>, callback: Callback<T> | undefined): Promise<T> | undefined {
  if (callback === undefined) return result;
  // In a turn of its own: what the callback throws is its own and no rejection of the statement's.
  result.then(
    (value) => process.nextTick(callback, null, value),
    (error: Error) => process.nextTick(callback, error),
  );
  return undefined;
}

const ended = (command: string): QueryResult => ({ command, rowCount: null, oid: 0, fields: [], rows: [] });
