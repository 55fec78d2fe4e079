/**
 * MongoDB as one tenant: collections of its own database, reached as its own user, and nothing from which anything else
 * can be reached.
 */
import { type ClientSession, type Document, MongoError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName } from '../../domain/names.js';
import type { CellServers, TenantCredentials } from '../context/cell-servers.js';
import type { TenantContext } from '../context/tenant-context.js';
import { throwIfAborted } from '../signal.js';
import { type ClientPool, createClientPool, type PoolStats } from './client-pool.js';
import type { CollectionName, DocumentOf, MongoDeclaration, ProductManifest } from './document-types.js';
import { createGuard, type Guard, type GuardedDatabase } from './guard.js';
import { createRetries, isLoginRefused } from './refused-login.js';
import { refused } from './refused.js';
import { type CollectionParts, ScopedCollection } from './scoped-collection.js';
import type { Lease } from './seat.js';
import { signalOf } from './signal.js';
import { Silence } from './silence.js';
import { type AskAccess, createRunner, createSessionRunner } from './statement-runner.js';

export interface ScopedMongoOptions {
  readonly servers: Pick<CellServers, 'mongoUrl'>;
  readonly credentials: TenantCredentials;
  readonly manifest: Manifest;
  /** Tenants with an open client at once. The server sees up to maxClients x (poolSizePerClient + 1) connections. */
  readonly maxClients?: number;
  /** Connections of one tenant. */
  readonly poolSizePerClient?: number;
  /** How long a call waits for a place, before CLIENTS_EXHAUSTED. Milliseconds, as all below. */
  readonly waitMs?: number;
  /** A client that is not used for so long is closed. */
  readonly idleMs?: number;
  /** A cursor that nobody reads from is closed after so long. */
  readonly cursorIdleMs?: number;
  /** A transaction that says nothing for so long is given up. The server ends one some time after it began, whatever it says. */
  readonly transactionIdleMs?: number;
  /** How often a client in use looks whether its password has been rotated. */
  readonly recheckMs?: number;
  /** How long a refused login is tried again with the newest password. */
  readonly loginPatienceMs?: number;
  /** What the server spends on a statement at most; a call may ask for less or more by `maxTimeMS`. */
  readonly maxTimeMs?: number;
  /** How long a call waits for a server that is away. */
  readonly serverSelectionMs?: number;
  /** How long a server that says nothing is waited for. */
  readonly socketTimeoutMs?: number;
  /** How long a tenant's connections wait for the server to end those in whose place they come. */
  readonly hangUpMs?: number;
  readonly askAccess?: AskAccess | undefined;
}

export interface ScopedMongo<M extends MongoDeclaration = ProductManifest> {
  /** @throws TenantryError STATEMENT_REFUSED when the manifest does not declare it */
  collection<Name extends CollectionName<M>>(name: Name): ScopedCollection<DocumentOf<M, Name>>;
  /**
   * Runs `work` in a transaction, and again when the server asks for it, so it does nothing but statements. What it
   * throws aborts the transaction.
   * @throws TenantryError STATEMENT_REFUSED on a standalone server, which has no transactions
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

export const createScopedMongo = (options: ScopedMongoOptions): ScopedMongoPool =>
  createScopedMongoWith(options, createGuard);

/** With the guard given: for tests of what the server refuses by itself. Not part of the package's surface. */
export function createScopedMongoWith(
  options: ScopedMongoOptions,
  guardOf: (own: GuardedDatabase) => Guard,
): ScopedMongoPool {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings: typeof DEFAULTS = { ...DEFAULTS, ...given };
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
        withTransaction: async (work, options) =>
          transact(pool, context, { ...parts, idleMs: settings.transactionIdleMs }, work, signalOf(options)),
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

interface TransactionParts extends CollectionParts {
  readonly idleMs: number;
}

/** A rotation may refuse a login on the way; then nothing of it is committed, and it begins again. */
async function transact<R, M extends MongoDeclaration>(
  pool: ClientPool,
  context: TenantContext,
  parts: TransactionParts,
  work: (transaction: ScopedTransaction<M>) => Promise<R>,
  signal: AbortSignal | undefined,
): Promise<R> {
  parts.runner.refuseOthers();
  // What the work has thrown stays as it is, so its caller's signal is not asked.
  const failure = async (error: unknown): Promise<never> => {
    throw await parts.runner.failure({ write: false, signal: undefined }, error);
  };
  const isBegunAgain = createRetries(parts.loginPatienceMs);
  for (;;) {
    const lease = await Promise.resolve(pool.lease(context.tenantId, signal)).catch(failure);
    lease.hold();
    try {
      if (!(await lease.bound(lease.login.hasTransactions())))
        throw refused('the server is a standalone, which has no transactions; a replica set of one has');
      await lease.bound(lease.login.fill());
      return await inTransaction(lease, context, parts, work, signal);
    } catch (error) {
      if (isLoginRefused(error)) lease.refuse();
      if (!mayBeCommitted(error) && isBegunAgain(error)) continue;
      return await failure(error);
    } finally {
      lease.release();
    }
  }
}

/** The driver's word for a commit whose answer was lost; what comes of trying it again does not tell. */
const mayBeCommitted = (error: unknown): boolean =>
  error instanceof MongoError && error.hasErrorLabel('UnknownTransactionCommitResult');

async function inTransaction<R, M extends MongoDeclaration>(
  lease: Lease,
  context: TenantContext,
  parts: TransactionParts,
  work: (transaction: ScopedTransaction<M>) => Promise<R>,
  signal: AbortSignal | undefined,
): Promise<R> {
  const session: ClientSession = lease.login.client.startSession();
  try {
    return await session.withTransaction(async () => {
      throwIfAborted(signal);
      let open = true;
      const silence = new Silence(parts.idleMs, leftOpen);
      const heard: Lease = { ...lease, bound: (asked) => silence.during(lease.bound(asked)) };
      const runner = createSessionRunner(heard, session, context, () => open);
      const within = { ...parts, runner };
      const transaction = Object.freeze<ScopedTransaction<M>>({
        collection: (name) => collectionOf(name, within),
      });
      try {
        return await silence.ends(() => work(transaction));
      } catch (error) {
        // The driver's own error says whether the transaction may be tried again.
        throw error instanceof TenantryError && error.cause instanceof MongoError ? error.cause : error;
      } finally {
        open = false;
      }
    });
  } finally {
    await session.endSession();
  }
}

const leftOpen = (): TenantryError =>
  new TenantryError('STORE_REFUSED', { store: 'MongoDB', reason: 'its transaction was left open' });
