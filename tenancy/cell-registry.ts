/**
 * The cells of this process. Each is prepared when it is first used: the product's tables are made, what MongoDB enforces is
 * tried, the canary is made, and Redis gets its users. Preparing is safe to repeat, so every worker does it.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { Blueprint } from '../catalogue/admission.js';
import type { Cell } from '../catalogue/cells.js';
import type { Catalogue } from '../catalogue/index.js';
import { TenantryError } from '../domain/errors.js';
import type { CellName } from '../domain/ids.js';
import type { Manifest } from '../domain/manifest.js';
import { settled } from '../domain/settled.js';
import type { ContextKey } from '../keys/context-key.js';
import type { SecretBox } from '../keys/sealed-secret.js';
import { type Canary, ensureCanary } from './canary.js';
import { type CellConnections, type ConnectOptions, connectCell } from './cell-connections.js';
import type { Tried, tryEnforcement } from './mongo/enforcement.js';
import type { CollectionLayout } from './mongo/layout.js';
import { adoptTables } from './postgres/adoption.js';
import { type SwitchTo, switchByToken, switchTo } from './postgres/context-sql.js';
import { ensureProductSchema } from './postgres/product-schema.js';
import { installContextKeys, signToken } from './postgres/token.js';
import { type Reconciled, reconcileNamespaces, type Unsettled } from './redis/reconcile.js';
import { inStore } from './store-error.js';

export interface PreparedCell extends CellConnections {
  /** Undefined where the MongoDB server did not earn tenants. */
  readonly canary: Canary | undefined;
  /** How a probe becomes a tenant in the cell's PostgreSQL. */
  readonly switchTo: SwitchTo;
}

export interface CellRegistryOptions extends ConnectOptions {
  readonly catalogue: Catalogue;
  readonly manifest: Manifest;
  readonly layouts: readonly CollectionLayout[];
  readonly blueprint: Blueprint;
  readonly secrets: SecretBox;
  /** The keys that are to be valid in a cell, oldest first. */
  readonly contextKeys: (cell: CellName) => readonly ContextKey[];
  /** Tries what a cell's MongoDB refuses. */
  readonly tryEnforcement: typeof tryEnforcement;
  readonly log: Logger;
}

export interface CellRegistry {
  /** @throws TenantryError UNKNOWN_CELL, or a store's error when the cell cannot be prepared now. The next call tries again. */
  get(name: CellName): Promise<PreparedCell>;
  close(): Promise<void>;
}

export function createCellRegistry(options: CellRegistryOptions): CellRegistry {
  const open = new Map<CellName, Promise<PreparedCell>>();
  const unsettled = new Map<CellName, Unsettled>();
  return {
    get(name) {
      const known = open.get(name);
      if (known !== undefined) return known;
      const left = unsettled.get(name) ?? new Map();
      unsettled.set(name, left);
      const prepared = prepare(options, name, left);
      open.set(name, prepared);
      prepared.catch(() => open.delete(name));
      return prepared;
    },
    async close() {
      for (const settled of await Promise.allSettled(open.values())) {
        if (settled.status === 'fulfilled') await closeAll(settled.value);
      }
    },
  };
}

/** Whether a cell with this result of the trial takes tenants. */
const earnsTenants = (cell: Pick<Cell, 'mongoEnforcement'>, trial: Tried): boolean =>
  cell.mongoEnforcement === 'guard' || trial.notRefused.length === 0;

async function prepare(
  options: CellRegistryOptions,
  name: CellName,
  unsettled: Unsettled,
): Promise<PreparedCell> {
  const { catalogue, log } = options;
  const cell = await catalogue.cells.find(name);
  if (cell === undefined) throw new TenantryError('UNKNOWN_CELL');
  const connections = connectCell(cell, options);
  try {
    // By the database's clock: a worker's own may have been put back since another worker tried.
    const triedAt = (await catalogue.cells.now()).toISOString();
    const [, tried] = await settled([
      inStore('postgres', ensureTables(connections, options)),
      inStore('mongo', options.tryEnforcement(connections.mongo, connections.mongoUrl)),
      inStore('redis', keepNamespaces(options, connections, unsettled)),
    ]);
    const trial = { ...tried, triedAt };
    const canary = earnsTenants(cell, trial) ? await ensureCanary(options, connections) : undefined;
    await catalogue.cells.prepared(name, trial);
    if (trial.notRefused.length > 0)
      log.warn(
        { cell: name, mode: cell.mongoEnforcement, notRefused: trial.notRefused },
        'MongoDB does not isolate',
      );
    return { ...connections, cell: { ...cell, trial }, canary, switchTo: probesAs(options, name) };
  } catch (error) {
    await connections.close();
    throw error;
  }
}

/** How long a token for a probe is valid: a minute, since a probe is one transaction of a few round trips. */
const PROBE_TOKEN_MS = 60_000;

function probesAs({ manifest, contextKeys }: CellRegistryOptions, cell: CellName): SwitchTo {
  if (!manifest.postgres.hardened) return switchTo;
  const newest = contextKeys(cell).at(-1);
  if (newest === undefined) throw new TypeError('hardened mode needs a context key');
  return switchByToken((tenant) => signToken(tenant, newest, new Date(Date.now() + PROBE_TOKEN_MS)));
}

async function ensureTables(
  { cell, postgres }: CellConnections,
  { manifest, contextKeys }: CellRegistryOptions,
): Promise<void> {
  const client = await postgres.owner.connect();
  try {
    await adoptTables(client, manifest);
    await ensureProductSchema(client, manifest);
  } finally {
    client.release();
  }
  // Installed whether or not the policies ask for tokens yet, so that a cell can be hardened while the product runs.
  await installContextKeys(postgres.owner, contextKeys(cell.name));
}

/** Makes users and markers, and makes them again whenever Redis comes back, since it may have lost them. */
async function keepNamespaces(
  { catalogue, secrets, log }: CellRegistryOptions,
  { cell, redis }: CellConnections,
  unsettled: Unsettled,
): Promise<void> {
  const reconcile = async (): Promise<Reconciled> => {
    const done = await reconcileNamespaces(catalogue, secrets, redis, cell.name, unsettled);
    if (done.foreign > 0)
      log.error(
        { cell: cell.name, foreign: done.foreign },
        'namespaces of Redis are marked by somebody else',
      );
    if (done.unreadable.length > 0)
      log.error(
        { cell: cell.name, unreadable: done.unreadable },
        "these tenants' passwords for Redis do not open: altered, or sealed under another root key",
      );
    return done;
  };
  let latest = 0;
  const remake = async (): Promise<void> => {
    const mine = ++latest;
    const isWanted = (): boolean => mine === latest && redis.status === 'ready';
    // Tried until it succeeds: the catalogue, which lists them, may be coming back from the same outage.
    for (let pause = 100; isWanted(); pause = Math.min(pause * 2, 10_000)) {
      try {
        const done = await reconcile();
        return log.info({ cell: cell.name, ...done }, 'Redis is back; its users and markers were made again');
      } catch (error) {
        log.warn({ err: error, cell: cell.name, pause }, 'the users of Redis are not made again yet');
        await wait(pause, undefined, { ref: false });
      }
    }
  };
  // Waits for the first connection, so that each `ready` event after this means that Redis came back.
  await redis.ping();
  redis.on('ready', () => void remake());
  const watch = setInterval(() => void leaveReplica(redis), LOOK_AT_ROLE_EVERY).unref();
  redis.once('end', () => clearInterval(watch));
  await reconcile();
}

/** Milliseconds. */
const LOOK_AT_ROLE_EVERY = 5_000;

/**
 * Finds out that a connection leads to a replica after a fail-over, and connects again. Such a server says so only when one
 * writes, and the users must be made on the new primary before tenants come.
 */
async function leaveReplica(redis: Redis): Promise<void> {
  if (redis.status !== 'ready') return;
  // A server that does not answer is left for a new connection when any command has waited for too long.
  const [role] = await redis.role().catch(() => [undefined]);
  if (role === 'slave') redis.disconnect(true);
}

async function closeAll(cell: PreparedCell): Promise<void> {
  await Promise.all([cell.canary?.mongo.close(), cell.close()]);
}
