/** A driver's client with its connections counted, lent to one tenant's user after another. */
import { type Db, MongoClient } from 'mongodb';
import { createConnections } from './connections.js';
import { forgetSessions, isAtWork } from './driver-inside.js';
import { createFindOne, type FindOne } from './find-one.js';
import { endLostStatements } from './lost-connection.js';
import { quietPools } from './quiet-pool.js';
import { createUserSwitch, type MongoUser } from './user-switch.js';

export interface ClientOptions {
  /** Without credentials. */
  readonly mongoUrl: string;
  /** The name in the server's list of connections. Default: `tenantry`. */
  readonly appName?: string;
  readonly poolSize: number;
  readonly serverSelectionMs: number;
  readonly socketTimeoutMs: number;
  /** How long a connection that is cut keeps its place if the server does not close it too, in milliseconds. */
  readonly hangUpMs: number;
}

export interface LentClient {
  readonly client: MongoClient;
  readonly findOne: FindOne;
  /** How many connections the server has from this client. */
  connections(): number;
  /** Opens all connections of the pool, so that none has to be opened later, when the password may have been rotated. */
  fill(db: Db): Promise<void>;
  /**
   * Ends the present user's use: cuts all connections and forgets the sessions. When it resolves, the client can be lent again.
   * Returns undefined, and changes nothing, where that cannot be: the driver still has work for this user, or it did not ask us
   * who logs in.
   */
  leave(): Promise<void> | undefined;
  /** Connections that are opened from now on log in as this user. */
  enter(user: MongoUser): void;
  /** Waits for the server to close its connections too, for a bounded time. Never rejects. */
  close(): Promise<void>;
}

/** How long the driver may take to close, in milliseconds: a server that does not answer must not keep a place for ever. */
const CLOSE_MS = 2_000;

/** @param cutOff aborted when the client is to be closed without waiting for its server */
export function openClient(options: ClientOptions, user: MongoUser, cutOff: AbortSignal): LentClient {
  const { mongoUrl, poolSize, serverSelectionMs, socketTimeoutMs, hangUpMs } = options;
  const connections = createConnections(hangUpMs, cutOff);
  const { connectionType } = connections;
  const client = new MongoClient(mongoUrl, {
    ...(connectionType && { connectionType }),
    appName: options.appName ?? 'tenantry',
    auth: { username: user.username, password: user.password.plain },
    authSource: user.source,
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
  quietPools(client);
  connections.boundIn(client);
  const users = createUserSwitch(endLostStatements(client), user, connections);
  const findOne = createFindOne(client, poolSize);
  return {
    client,
    findOne: findOne.send,
    connections: () => connections.count(),
    async fill(db) {
      // The pings go side by side, so that each needs a connection of its own. In several rounds, because the first may have
      // returned its connection before the last asks for one.
      for (let round = 0; connections.countInPools() < poolSize && round < 5; round++)
        await Promise.all(Array.from({ length: poolSize }, () => db.command({ ping: 1 })));
    },
    leave() {
      // A connection that is still logging in, for a caller who has gone, would not be cut.
      if (connections.isOpening() || isAtWork(client)) return undefined;
      const left = users.leave();
      if (left === undefined) return undefined;
      findOne.forget();
      forgetSessions(client);
      return left;
    },
    enter: (next) => users.enter(next),
    async close() {
      users.end();
      // Otherwise the driver would end them on the server, and open a connection for that where none is left.
      forgetSessions(client);
      // The driver would destroy connections that are still being opened without our counting them.
      await noLongerThan(hangUpMs, connections.settled());
      await noLongerThan(
        CLOSE_MS,
        client.close().catch(() => undefined),
      );
      connections.end();
      await noLongerThan(hangUpMs, connections.settled());
    },
  };
}

async function noLongerThan(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
