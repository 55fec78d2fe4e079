/**
 * The driver's undocumented internals that we use: how it authenticates, how it makes, counts and monitors connections, what it
 * has under way, which sessions it keeps, and how it executes a command. They are those of mongodb 7.9.0, and that version is
 * pinned. Where they are not as expected, each function here says so or falls back to the documented way.
 * lib/mongo_client_auth_providers.js, lib/cmap/auth/auth_provider.js, lib/cmap/connection.js, lib/cmap/connection_pool.js,
 * lib/sdam/monitor.js, lib/sdam/server.js, lib/sdam/topology.js, lib/sessions.js, lib/db.js, lib/operations.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Document, MongoClient, RunCommandOptions } from 'mongodb';

export interface AuthProviders {
  /** By mechanism; each is made when it is first asked for. */
  readonly existingProviders: Map<string, AuthProvider>;
  getOrCreateProvider(mechanism: string, properties: unknown): AuthProvider;
}

/** Called for each connection, before its handshake and after it. */
export interface AuthProvider {
  prepare(handshake: Document, context: AuthContext): Promise<Document>;
  auth(context: AuthContext): Promise<void>;
  reauth(context: AuthContext): Promise<void>;
}

export interface AuthContext {
  readonly connection: Connection;
  /** The server's answer to the handshake. It includes the answer to the first message of the login, if the server sent one. */
  readonly response?: { readonly speculativeAuthenticate?: Document };
}

export interface Connection {
  readonly socket: Socket;
  /** Takes effect at once: the pool does not hand the connection out again. */
  destroy(): void;
  once(event: 'close', listener: () => void): unknown;
  command(namespace: { readonly db: string; toString(): string }, command: Document): Promise<Document>;
}

/** Undefined when the driver's internals are not as expected. */
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
 * Makes a client's connections as the driver itself does. Undefined when its internals are not as expected.
 * @param use called for each connection once its socket is connected, with the address of its pool; without one for monitoring
 */
export function connectionTypeOf(
  use: (connection: Connection, pool: string | undefined) => void,
  inside = PARTS,
): ConnectionType | undefined {
  const { Connection: Own } = inside;
  if (!Own) return undefined;
  // Called with `new`, this returns the driver's own connection. A subclass for each client would slow down the driver's code
  // for all of them.
  return function connect(socket: Socket, options: ConnectOptions) {
    const connection = new Own(socket, options);
    use(connection, options.id === '<monitor>' ? undefined : options.hostAddress.toString());
    return connection;
  } as unknown as ConnectionType;
}

export interface ConnectionPool extends EventEmitter {
  /** The server's address. */
  readonly address: string;
  readonly totalConnectionCount: number;
  /** Connections that are being opened. */
  readonly pendingConnectionCount: number;
  createConnection(then: (...made: unknown[]) => void): void;
  /** Gives connections to those that wait for one, and opens new ones up to the pool's size. */
  processWaitQueue(): void;
}

/** Checks a server's state, over a connection of its own. */
export interface Monitor {
  /** Closes its connection and opens another one. */
  reset(): void;
  /** Asks for a check soon: at once if the last one ended more than half a second ago. */
  requestCheck(): void;
  readonly monitorId?: { lastExecutionEnded: number };
}

export interface Server {
  readonly pool: ConnectionPool;
  readonly monitor: Monitor;
}

/** Calls `use` once for each server, also for one that is found later. Never when the driver's internals are not as expected. */
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
 * Whether the driver has anything under way on the client. That includes what no caller waits for, such as a statement that was
 * not awaited. True as well when the driver's internals are not as expected, since nobody can tell then.
 */
export function isAtWork(client: MongoClient): boolean {
  const topology = topologyOf(client);
  // The client has never been used.
  if (topology === undefined) return false;
  const servers = serversOf(client);
  if (servers === undefined || topology.waitQueue?.length !== 0) return true;
  return [...servers.values()].some(({ s }) => s?.operationCount !== 0);
}

/** Drops the server sessions that the driver keeps for later statements. */
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
 * Like `db.command`, for options that have been read already, as those of a client have. `db.command` reads and copies them three
 * times, which takes a twentieth of a read by primary key. It is used when the driver's internals are not as expected.
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
