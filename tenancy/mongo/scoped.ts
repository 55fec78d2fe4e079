/**
 * MongoDB as one tenant: collections of its own database, reached as its own user, and nothing from which anything else
 * can be reached.
 */
import type { Document } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName } from '../../domain/names.js';
import type { CellServers, TenantCredentials } from '../context/cell-servers.js';
import type { TenantContext } from '../context/tenant-context.js';
import { wholeSettings } from '../positive.js';
import { createClientPool, type PoolStats } from './client-pool.js';
import type { CollectionName, DocumentOf, MongoDeclaration, ProductManifest } from './document-types.js';
import { createGuard, type Guard, type GuardedDatabase } from './guard.js';
import { type CollectionParts, ScopedCollection } from './scoped-collection.js';
import { signalOf } from './signal.js';
import { type AskAccess, createRunner } from './statement-runner.js';
import { transact } from './transaction.js';

export interface ScopedMongoOptions {
  readonly servers: Pick<CellServers, 'mongoUrl'>;
  readonly credentials: TenantCredentials;
  readonly manifest: Manifest;
  /** Tenants with an open client at once. The server sees up to maxClients x (poolSizePerClient + 1) connections. Default 100. */
  readonly maxClients?: number;
  /** Connections of one tenant. Default 4. */
  readonly poolSizePerClient?: number;
  /** How long a call waits for a place, before CLIENTS_EXHAUSTED. In ms, as all below. Default 5 s. */
  readonly waitMs?: number;
  /** A client that is not used for so long is closed. Default 5 min. */
  readonly idleMs?: number;
  /** A cursor that nobody reads from is closed after so long. Default 60 s. */
  readonly cursorIdleMs?: number;
  /** A transaction without a statement for so long is given up. Default 60 s. The server bounds its whole time as well. */
  readonly transactionIdleMs?: number;
  /** How often a client in use looks whether its password has been rotated. Default 1 s. */
  readonly recheckMs?: number;
  /** How long a refused login is tried again with the newest password. Default 3 s. */
  readonly loginPatienceMs?: number;
  /** What the server spends on a statement at most; a call may ask for less or more by `maxTimeMS`. Default 10 s. */
  readonly maxTimeMs?: number;
  /** How long a call waits for a server that is away. Default 5 s. */
  readonly serverSelectionMs?: number;
  /** How long a server that says nothing is waited for. Default 30 s. */
  readonly socketTimeoutMs?: number;
  /** How long a tenant's connections wait until the server has ended those that they replace. Default 1 s. */
  readonly hangUpMs?: number;
  readonly askAccess?: AskAccess | undefined;
}

export interface ScopedMongo<M extends MongoDeclaration = ProductManifest> {
  /** @throws TenantryError STATEMENT_REFUSED when the manifest does not declare it */
  collection<Name extends CollectionName<M>>(name: Name): ScopedCollection<DocumentOf<M, Name>>;
  /**
   * Runs `work` in a transaction, and again when the server asks for it, so it does nothing but statements. They go one
   * after another, in the order in which they were asked for. What it throws aborts the transaction, and so does `signal`,
   * until the commit is under way: its answer is the truth.
   * @throws TenantryError STATEMENT_REFUSED on a standalone server, which has no transactions; STORE_REFUSED when a failed
   *   statement was swallowed in `work`
   */
  withTransaction<R>(
    work: (transaction: ScopedTransaction<M>) => Promise<R>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<R>;
}

export type ScopedTransaction<M extends MongoDeclaration = ProductManifest> = Pick<
  ScopedMongo<M>,
  'collection'
>;

export interface ScopedMongoPool {
  forTenant<M extends MongoDeclaration = ProductManifest>(context: TenantContext): ScopedMongo<M>;
  stats(): PoolStats;
  /** Ends when the work that is under way has, or is cut off after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

const DEFAULTS = {
  maxClients: 100,
  poolSizePerClient: 4,
  waitMs: 5_000,
  idleMs: 300_000,
  cursorIdleMs: 60_000,
  transactionIdleMs: 60_000,
  recheckMs: 1_000,
  loginPatienceMs: 3_000,
  maxTimeMs: 10_000,
  serverSelectionMs: 5_000,
  socketTimeoutMs: 30_000,
  hangUpMs: 1_000,
};

/** @throws RangeError of a setting that is no whole number from 1 */
export const createScopedMongo = (options: ScopedMongoOptions): ScopedMongoPool =>
  createScopedMongoWith(options, createGuard);

/** With the guard given: for tests of what the server refuses by itself. Not part of the package's surface. */
export function createScopedMongoWith(
  options: ScopedMongoOptions,
  guardOf: (own: GuardedDatabase) => Guard,
): ScopedMongoPool {
  const settings = wholeSettings(DEFAULTS, options);
  const collections = new Set(Object.keys(options.manifest.mongo.collections));
  const pool = createClientPool({
    ...settings,
    mongoUrl: options.servers.mongoUrl,
    credentials: options.credentials,
    poolSize: settings.poolSizePerClient,
  });
  return {
    forTenant<M extends MongoDeclaration>(context: TenantContext): ScopedMongo<M> {
      const parts: CollectionParts = {
        guard: guardOf(new OwnDatabase(context.tenantId, collections)),
        runner: createRunner(pool, context, settings.loginPatienceMs, options.askAccess),
        maxTimeMs: settings.maxTimeMs,
        cursorIdleMs: settings.cursorIdleMs,
        loginPatienceMs: settings.loginPatienceMs,
      };
      return Object.freeze<ScopedMongo<M>>({
        collection: (name) => collectionOf(name, parts),
        withTransaction: async <R>(
          work: (transaction: ScopedTransaction<M>) => Promise<R>,
          options?: { readonly signal?: AbortSignal },
        ) =>
          transact(
            { pool, context, ...parts, idleMs: settings.transactionIdleMs },
            (runner) => {
              const within = { ...parts, runner };
              return work(
                Object.freeze<ScopedTransaction<M>>({ collection: (name) => collectionOf(name, within) }),
              );
            },
            signalOf(options),
          ),
      });
    },
    stats: () => pool.stats(),
    close: (graceMs) => pool.close(graceMs),
  };
}

/** A class, since V8 makes a getter in a literal anew each time, which is ten times what the rest of `forTenant` costs. */
class OwnDatabase implements GuardedDatabase {
  readonly #tenantId: TenantId;
  readonly collections: ReadonlySet<string>;

  constructor(tenantId: TenantId, collections: ReadonlySet<string>) {
    this.#tenantId = tenantId;
    this.collections = collections;
  }

  /** Asked for by few statements. */
  get database(): string {
    return mongoDatabaseName(this.#tenantId);
  }
}

function collectionOf<T extends Document>(name: string, parts: CollectionParts): ScopedCollection<T> {
  return new ScopedCollection<T>(parts.guard.collection(name), parts);
}
