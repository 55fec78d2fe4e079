/**
 * The control plane's connections to the servers of each cell, opened when they are first needed and kept. The product's
 * connections, which log in as tenants, are opened by `product-stores.ts`.
 */
import { Redis } from 'ioredis';
import { MongoClient } from 'mongodb';
import type { Pool } from 'pg';
import type { Cell } from '../catalogue/cells.js';
import { createPool } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import { endLostStatements } from './mongo/lost-connection.js';

export interface CellConnections {
  readonly cell: Cell;
  /** One pool for each role: a statement runs with the least rights that it needs. */
  readonly postgres: {
    readonly owner: Pool;
    readonly control: Pool;
    readonly runtime: Pool;
    readonly purge: Pool;
  };
  readonly mongo: MongoClient;
  /** The URL of the cell's MongoDB without credentials: tenants connect with their own. */
  readonly mongoUrl: string;
  readonly redis: Redis;
  /** For commands as a tenant, which are sent after that tenant's AUTH in one pipeline. So its user changes with each use. */
  readonly redisAsTenant: Redis;
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly resolveSecret: (reference: string) => string;
  /** Connections in each of the busy pools. */
  readonly poolSize: number;
  readonly silence?: Silence | undefined;
}

/** How long a connection may be silent while an answer is due, in milliseconds: then it is given up for a new one. */
export interface Silence {
  readonly mongo: number;
  readonly redis: number;
}

const SILENCE: Silence = { mongo: 20_000, redis: 10_000 };

/** @throws TenantryError STORE_REFUSED for a MongoDB whose URL is unfit, and what `resolveSecret` throws */
export function connectCell(
  cell: Cell,
  { resolveSecret, poolSize, silence = SILENCE }: ConnectOptions,
): CellConnections {
  const mongoUrl = resolveSecret(cell.mongo);
  refuseUnfitUrl(mongoUrl);
  const pool = (role: string, reference: string, max: number): Pool =>
    createPool({ url: resolveSecret(reference), name: `tenantry-${role}`, max });
  const postgres = {
    owner: pool('owner', cell.postgresOwner, 2),
    control: pool('control', cell.postgresControl, poolSize),
    runtime: pool('probe', cell.postgresRuntime, poolSize),
    purge: pool('purge', cell.postgresPurge, 2),
  };
  const mongo = new MongoClient(mongoUrl, {
    appName: 'tenantry',
    maxPoolSize: poolSize,
    connectTimeoutMS: 5_000,
    serverSelectionTimeoutMS: 5_000,
    socketTimeoutMS: silence.mongo,
    // Majority: a fail-over could lose a user or collection otherwise, which the ledger would still call created.
    writeConcern: { w: 'majority', journal: true },
  });
  endLostStatements(mongo);
  const redisUrl = resolveSecret(cell.redis);
  const redis = openRedis(redisUrl, 'tenantry', silence.redis);
  const redisAsTenant = openRedis(redisUrl, 'tenantry-probe', silence.redis);
  return {
    cell,
    postgres,
    mongo,
    mongoUrl: mongoUrlWithoutCredentials(mongoUrl),
    redis,
    redisAsTenant,
    async close() {
      redis.disconnect();
      redisAsTenant.disconnect();
      await Promise.all([...Object.values(postgres).map((p) => p.end()), mongo.close()]);
    },
  };
}

function openRedis(url: string, name: string, silence: number): Redis {
  const redis = new Redis(url, {
    connectionName: name,
    connectTimeout: 5_000,
    commandTimeout: silence,
    // Every later command would wait on it too, for as long as the system takes it for open.
    socketTimeout: silence,
    // What was under way when it broke has failed, and is not sent again over the next one: who asked for it may have gone on,
    // and another worker undone it.
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(50 * times, 1_000),
    // After a fail-over the address leads to another server, and this one is a replica: connect again.
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    // Replies within a millisecond matter more than fewer packets.
    noDelay: true,
  });
  // Without a listener ioredis prints to the console. The caller of a failed command gets the error anyway.
  redis.on('error', () => undefined);
  return redis;
}

/** The URL without user and password: a tenant logs in with its own. */
export function mongoUrlWithoutCredentials(url: string): string {
  const bare = url.replace(/^(mongodb(?:\+srv)?:\/\/)[^@/]*@/, '$1');
  // An `@` after the host, as in appName=a@b: without credentials the driver would take what is before it for some.
  return bare.replaceAll('@', '%40');
}

/**
 * Refuses what no tenant's data may rest on. Behind a load balancer the driver (7.9) returns a connection to its pool while the
 * answer to the killCursors of an aborted cursor is still due. It takes that answer for the next statement's, and from then on
 * each statement gets the answer of the one before it. A write that is not acknowledged may have been refused.
 * @throws TenantryError STORE_REFUSED
 */
export function refuseUnfitUrl(url: string): void {
  const { loadBalanced, writeConcern } = new MongoClient(url).options;
  if (loadBalanced) throw unfit('its URL says loadBalanced, behind which the driver mixes up answers');
  if (writeConcern?.w === 0)
    throw unfit('its URL says w=0, by which no write is acknowledged: take it out, or say w=majority');
}

const unfit = (reason: string): TenantryError =>
  new TenantryError('STORE_REFUSED', { store: 'MongoDB', reason });
