/**
 * What is used of the driver's inside, which is not documented: its seam for authentication, how it makes, bounds and looks
 * after connections, what it has under way and keeps, and how it executes a command (mongodb 7.9.0, and that version is pinned).
 * lib/mongo_client_auth_providers.js, lib/cmap/auth/auth_provider.js, lib/cmap/connection.js, lib/cmap/connection_pool.js,
 * lib/sdam/monitor.js, lib/sdam/server.js, lib/sdam/topology.js, lib/sessions.js, lib/db.js, lib/operations.
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

/** For a client's option `connectionType`, which is not documented either. */
export type ConnectionType = new (socket: Socket, options: ConnectOptions) => Connection;

interface ConnectOptions {
  readonly id: number | '<monitor>';
  readonly hostAddress: { toString(): string };
}

/**
 * What makes a client's connections as the driver itself makes them. Undefined when its inside is another one.
 * @param use told of each once its socket is connected, and of the address of its pool, if it is for one
 */
export function connectionTypeOf(
  use: (connection: Connection, pool: string | undefined) => void,
  inside = PARTS,
): ConnectionType | undefined {
  const { Connection: Own } = inside;
  if (!Own) return undefined;
  // Called with `new`, it gives the driver's own. A class for each client would make the driver's code slower for all.
  return function connect(socket: Socket, options: ConnectOptions) {
    const connection = new Own(socket, options);
    use(connection, options.id === '<monitor>' ? undefined : options.hostAddress.toString());
    return connection;
  } as unknown as ConnectionType;
}

export interface ConnectionPool extends EventEmitter {
  /** Of its server. */
  readonly address: string;
  readonly totalConnectionCount: number;
  /** Those that are being opened. */
  readonly pendingConnectionCount: number;
  createConnection(then: (...made: unknown[]) => void): void;
  /** Gives connections to whoever waits for one, and opens new ones as far as it may. */
  processWaitQueue(): void;
}

/** Looks how a server is, over a connection of its own. */
export interface Monitor {
  /** Its connection is cut, and it begins anew. */
  reset(): void;
  /** It is to look soon: at once, if the last time was more than half a second ago. */
  requestCheck(): void;
  readonly monitorId?: { lastExecutionEnded: number };
}

export interface Server {
  readonly pool: ConnectionPool;
  readonly monitor: Monitor;
}

/** Once for each server, also for one that is found later. Never when the driver's inside is another one. */
export function onEachServer(client: MongoClient, use: (server: Server) => void): void {
  const known = new WeakSet<Server>();
  client.on('connectionPoolCreated', () => {
    for (const server of serversOf(client)?.values() ?? []) {
      if (!isServer(server) || known.has(server)) continue;
      known.add(server);
      use(server);
    }
  });
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

interface AnyServer {
  readonly pool?: Partial<ConnectionPool>;
  readonly monitor?: Partial<Monitor> | null;
  readonly s?: { readonly operationCount?: number };
}

const isServer = (server: AnyServer): server is Server =>
  server.pool instanceof EventEmitter &&
  typeof server.pool.createConnection === 'function' &&
  typeof server.pool.processWaitQueue === 'function' &&
  typeof server.monitor?.reset === 'function' &&
  typeof server.monitor.requestCheck === 'function';

const topologyOf = (client: MongoClient): Topology | undefined =>
  (client as unknown as { readonly topology?: Topology }).topology;

function serversOf(client: MongoClient): ReadonlyMap<string, AnyServer> | undefined {
  const servers = topologyOf(client)?.s?.servers;
  return servers instanceof Map ? (servers as ReadonlyMap<string, AnyServer>) : undefined;
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
export function executeCommandOf(client: MongoClient, inside = PARTS): ExecuteCommand {
  const { executeOperation, RunCommandOperation, MongoDBNamespace } = inside;
  if (!executeOperation || !RunCommandOperation || !MongoDBNamespace)
    return (database, command, options) => client.db(database).command(command, options);
  return (database, command, options) =>
    executeOperation(client, new RunCommandOperation(new MongoDBNamespace(database), command, options));
}

interface Parts {
  executeOperation(client: MongoClient, operation: object): Promise<Document>;
  readonly RunCommandOperation: new (
    namespace: object,
    command: Document,
    options: RunCommandOptions,
  ) => object;
  readonly MongoDBNamespace: new (database: string) => object;
  readonly Connection: ConnectionType;
}

const PARTS = parts();

function parts(): Partial<Parts> {
  try {
    return {
      ...(require('mongodb/lib/operations/execute_operation.js') as Pick<Parts, 'executeOperation'>),
      ...(require('mongodb/lib/operations/run_command.js') as Pick<Parts, 'RunCommandOperation'>),
      ...(require('mongodb/lib/utils.js') as Pick<Parts, 'MongoDBNamespace'>),
      ...(require('mongodb/lib/cmap/connection.js') as Pick<Parts, 'Connection'>),
    };
  } catch {
    return {};
  }
}
