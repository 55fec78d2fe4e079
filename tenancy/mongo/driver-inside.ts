/**
 * What is used of the driver's inside, which is not documented: its seam for authentication, who hears of its pools, what it
 * has under way and keeps, and how it executes a command (mongodb 7.9.0, and that version is pinned).
 * lib/mongo_client_auth_providers.js, lib/cmap/auth/auth_provider.js, lib/cmap/connection.js, lib/sdam/server.js,
 * lib/sdam/topology.js, lib/sessions.js, lib/db.js, lib/operations.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Document, MongoClient, RunCommandOptions } from 'mongodb';

export interface AuthProviders {
  /** By mechanism; made when first asked for. */
  readonly existingProviders: Map<string, AuthProvider>;
  getOrCreateProvider(mechanism: string, properties: unknown): AuthProvider;
}

/** Asked for each connection, before its handshake and after. */
export interface AuthProvider {
  prepare(handshake: Document, context: AuthContext): Promise<Document>;
  auth(context: AuthContext): Promise<void>;
  reauth(context: AuthContext): Promise<void>;
}

export interface AuthContext {
  readonly connection: Connection;
  /** Of its pool. */
  readonly options?: { readonly hostAddress?: { toString(): string } };
  /** The server's answer to the handshake, with one to the first message when it could give it. */
  readonly response?: { readonly speculativeAuthenticate?: Document };
}

export interface Connection {
  readonly socket: Socket;
  /** At once: the pool does not hand it out again. */
  destroy(): void;
  once(event: 'close', listener: () => void): unknown;
  command(namespace: { readonly db: string; toString(): string }, command: Document): Promise<Document>;
}

/** Undefined when the driver's inside is another one. */
export function authProvidersOf(client: MongoClient): AuthProviders | undefined {
  const { s } = client as unknown as { readonly s?: { readonly authProviders?: Partial<AuthProviders> } };
  const providers = s?.authProviders;
  return providers?.existingProviders instanceof Map && typeof providers.getOrCreateProvider === 'function'
    ? (providers as AuthProviders)
    : undefined;
}

export interface ConnectionPool extends EventEmitter {
  /** Of its server. */
  readonly address: string;
  readonly totalConnectionCount: number;
  /** Gives connections to whoever waits for one, and opens new ones as far as it may. */
  processWaitQueue(): void;
}

/** Once for the pool of each server, also of one that is found later. Never when the driver's inside is another one. */
export function onEachPool(client: MongoClient, use: (pool: ConnectionPool) => void): void {
  const known = new WeakSet<ConnectionPool>();
  client.on('connectionPoolCreated', () => {
    for (const { pool } of serversOf(client)?.values() ?? []) {
      if (!isConnectionPool(pool) || known.has(pool)) continue;
      known.add(pool);
      use(pool);
    }
  });
}

/** The connection to each server over which the client looks how that is. */
export function monitorsOf(client: MongoClient): Connection[] {
  return [...(serversOf(client)?.values() ?? [])].flatMap(({ monitor }) => monitor?.connection ?? []);
}

/**
 * Whether the driver has anything to do on the client, also what its caller does not wait for: a statement that was not
 * awaited, or the end of a cursor whose caller has gone. Also when its inside is another one and nobody can tell.
 */
export function isAtWork(client: MongoClient): boolean {
  const topology = topologyOf(client);
  // It has never been used.
  if (topology === undefined) return false;
  const servers = serversOf(client);
  if (servers === undefined || topology.waitQueue?.length !== 0) return true;
  return [...servers.values()].some(({ s }) => s?.operationCount !== 0);
}

/** The server sessions that the driver keeps for the next statement. */
export function forgetSessions(client: MongoClient): void {
  const { s } = client as unknown as {
    readonly s?: { readonly sessionPool?: { readonly sessions?: { clear?(): void } } };
  };
  s?.sessionPool?.sessions?.clear?.();
}

interface Topology {
  readonly waitQueue?: { readonly length?: number };
  readonly s?: { readonly servers?: unknown };
}

interface Server {
  readonly pool?: unknown;
  readonly monitor?: { readonly connection?: Connection | null };
  readonly s?: { readonly operationCount?: number };
}

const isConnectionPool = (pool: unknown): pool is ConnectionPool =>
  pool instanceof EventEmitter && 'processWaitQueue' in pool && 'totalConnectionCount' in pool;

const topologyOf = (client: MongoClient): Topology | undefined =>
  (client as unknown as { readonly topology?: Topology }).topology;

function serversOf(client: MongoClient): ReadonlyMap<string, Server> | undefined {
  const servers = topologyOf(client)?.s?.servers;
  return servers instanceof Map ? (servers as ReadonlyMap<string, Server>) : undefined;
}

export type ExecuteCommand = (
  database: string,
  command: Document,
  options: RunCommandOptions,
) => Promise<Document>;

/**
 * As `db.command`, for options that are read already (those of a client are): it reads and copies them three times, which is a
 * twentieth of a read by primary key. With another inside it is `db.command`.
 */
export function executeCommandOf(client: MongoClient, inside = OPERATIONS): ExecuteCommand {
  const { executeOperation, RunCommandOperation, MongoDBNamespace } = inside;
  if (!executeOperation || !RunCommandOperation || !MongoDBNamespace)
    return (database, command, options) => client.db(database).command(command, options);
  return (database, command, options) =>
    executeOperation(client, new RunCommandOperation(new MongoDBNamespace(database), command, options));
}

interface Operations {
  executeOperation(client: MongoClient, operation: object): Promise<Document>;
  readonly RunCommandOperation: new (
    namespace: object,
    command: Document,
    options: RunCommandOptions,
  ) => object;
  readonly MongoDBNamespace: new (database: string) => object;
}

const OPERATIONS = operations();

function operations(): Partial<Operations> {
  try {
    return {
      ...(require('mongodb/lib/operations/execute_operation.js') as Pick<Operations, 'executeOperation'>),
      ...(require('mongodb/lib/operations/run_command.js') as Pick<Operations, 'RunCommandOperation'>),
      ...(require('mongodb/lib/utils.js') as Pick<Operations, 'MongoDBNamespace'>),
    };
  } catch {
    return {};
  }
}
