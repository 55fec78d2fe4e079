/**
 * A driver's client logged in as one tenant's user. Its password may be rotated while it logs in: a login that is
 * refused asks for the password again, for as long as the catalogue and the server may disagree.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type Collection, type Db, MongoClient, MongoNetworkError, MongoServerError } from 'mongodb';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import type { TenantCredential, TenantCredentials } from '../context/cell-servers.js';
import { type FindOne, findOneThrough } from './find-one.js';

export interface LoginOptions {
  /** Without credentials. */
  readonly mongoUrl: string;
  readonly credentials: TenantCredentials;
  readonly poolSize: number;
  /** How long a refused login is tried again: a rotation is in two places, and one of them is later. Milliseconds. */
  readonly loginPatienceMs: number;
  readonly serverSelectionMs: number;
  readonly socketTimeoutMs: number;
}

/** All that is known of one connected client. It never leaves this folder. */
export interface Login {
  readonly client: MongoClient;
  /** Of the password that it logged in with. */
  readonly version: number;
  collection(name: string): Collection;
  readonly findOne: FindOne;
  /** Connections of its pool, those that are being opened included. */
  connections(): number;
  /** Opens all connections of its pool, so that none must be opened, with a password that may be old, later. */
  fill(): Promise<void>;
  /** Whether the server has transactions: a standalone has none. */
  hasTransactions(): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * AuthenticationFailed: nothing was executed, since a connection logs in before it is used. Who was waiting for that
 * connection, or for another of its pool, hears that the pool was cleared, and this as the reason.
 */
export const isLoginRefused = (error: unknown): boolean =>
  error instanceof MongoServerError ? error.code === 18 : isPoolCleared(error) && isLoginRefused(error.cause);

/** The connection that a statement was waiting for did not come to be. */
const isPoolCleared = (error: unknown): error is MongoNetworkError =>
  error instanceof MongoNetworkError && error.name === 'MongoPoolClearedError';

/** More than one lost connection in the course of one statement is possible, many are not. */
const ATTEMPTS = 4;

/**
 * Whether a statement is sent again after each of its failures: only if it was certainly not sent. A refused login is
 * tried again for as long as a rotation may take, since it may be followed by another one.
 */
export function createRetries(patienceMs: number): (error: unknown) => boolean {
  let [attempt, until] = [1, Number.POSITIVE_INFINITY];
  return (error) => {
    if (attempt++ === 1) until = performance.now() + patienceMs;
    return isLoginRefused(error) ? performance.now() < until : isPoolCleared(error) && attempt <= ATTEMPTS;
  };
}

/** @param fresh the password that is known was refused */
export async function logIn(options: LoginOptions, tenantId: TenantId, fresh: boolean): Promise<Login> {
  const { credentials, loginPatienceMs } = options;
  const until = performance.now() + loginPatienceMs;
  let credential = await credentials.get(tenantId, 'mongo', { fresh });
  for (let delay = 0; ; delay = Math.min(2 * delay + 25, 400)) {
    const login = loginOf(options, tenantId, credential);
    try {
      await login.client.connect();
      return login;
    } catch (error) {
      await login.close();
      if (!isLoginRefused(error) || performance.now() + delay > until) throw error;
    }
    await pause(delay);
    credential = await credentials.get(tenantId, 'mongo', { fresh: true });
  }
}

function loginOf(options: LoginOptions, tenantId: TenantId, { password, version }: TenantCredential): Login {
  const database = mongoDatabaseName(tenantId);
  const { mongoUrl, poolSize, serverSelectionMs, socketTimeoutMs } = options;
  const client = new MongoClient(mongoUrl, {
    appName: 'tenantry',
    auth: { username: mongoUserName(tenantId), password },
    authSource: database,
    authMechanism: 'SCRAM-SHA-256',
    maxPoolSize: poolSize,
    minPoolSize: 0,
    maxConnecting: poolSize,
    // One monitoring connection for each server rather than two.
    serverMonitoringMode: 'poll',
    connectTimeoutMS: serverSelectionMs,
    serverSelectionTimeoutMS: serverSelectionMs,
    waitQueueTimeoutMS: socketTimeoutMs,
    socketTimeoutMS: socketTimeoutMs,
  });
  let open = 0;
  const ready = new Set<string>();
  client.on('connectionCreated', () => open++);
  client.on('connectionReady', ({ address, connectionId }) => ready.add(`${address}/${connectionId}`));
  client.on('connectionClosed', ({ address, connectionId }) => {
    open--;
    ready.delete(`${address}/${connectionId}`);
  });
  const db: Db = client.db(database);
  const collections = new Map<string, Collection>();
  let transactions: Promise<boolean> | undefined;
  return {
    client,
    version,
    collection(name) {
      const known = collections.get(name);
      if (known !== undefined) return known;
      const collection = db.collection(name);
      collections.set(name, collection);
      return collection;
    },
    findOne: findOneThrough(client, db, poolSize),
    connections: () => open,
    async fill() {
      // Side by side, so that each needs a connection of its own; the first may be back before the last is asked for.
      for (let round = 0; ready.size < poolSize && round < 5; round++)
        await Promise.all(Array.from({ length: poolSize }, () => db.command({ ping: 1 })));
    },
    hasTransactions() {
      transactions ??= askForTransactions(db).catch((error: unknown) => {
        transactions = undefined;
        throw error;
      });
      return transactions;
    },
    close: () => client.close(),
  };
}

async function askForTransactions(db: Db): Promise<boolean> {
  const hello = await db.command({ hello: 1 });
  return typeof hello['setName'] === 'string' || hello['msg'] === 'isdbgrid';
}
