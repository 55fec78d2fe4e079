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
  /** As the server's list of connections names it; `tenantry` by itself. */
  readonly appName?: string;
  readonly poolSize: number;
  readonly serverSelectionMs: number;
  readonly socketTimeoutMs: number;
  /** How long a connection keeps its place that is cut, and whose server does not hang up. */
  readonly hangUpMs: number;
}

export interface LentClient {
  readonly client: MongoClient;
  readonly findOne: FindOne;
  /** That its server has. */
  connections(): number;
  /** Opens all connections of its pool, so that none must be opened, with a password that may be old, later. */
  fill(db: Db): Promise<void>;
  /**
   * Its user is done with it: all that is logged in is cut, its sessions are forgotten, and then it can be lent again.
   * Undefined where it cannot, and nothing has happened: the driver still has something to do for that user, or has not asked
   * here who logs in.
   */
  leave(): Promise<void> | undefined;
  /** What connects from now on logs in as that user. */
  enter(user: MongoUser): void;
  /** Until the server has hung up too. Never fails, and takes no longer than a while. */
  close(): Promise<void>;
}

/** A server that does not answer must not keep a place for ever. Milliseconds. */
const CLOSE_MS = 2_000;

/** @param cutOff when it is to be closed without waiting for its server */
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
      // Side by side, so that each needs a connection of its own; the first may be back before the last is asked for.
      for (let round = 0; connections.countInPools() < poolSize && round < 5; round++)
        await Promise.all(Array.from({ length: poolSize }, () => db.command({ ping: 1 })));
    },
    leave() {
      // One that is still logging in, for a caller who has gone, would come too late to be cut.
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
      // To end them on the server takes a connection, and would make one where none is left.
      forgetSessions(client);
      // What is being opened would be cut where nobody sees it.
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
