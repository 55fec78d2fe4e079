/**
 * A client's connections, from when they are made until their server has ended them too. A socket that is only destroyed is gone
 * for this process at once, and for the server a moment later: a connection that takes its place meanwhile is one more than
 * was allowed.
 */
import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import type { MongoClient } from 'mongodb';
import {
  type Connection,
  type ConnectionPool,
  type ConnectionType,
  connectionTypeOf,
  onEachServer,
} from './driver-inside.js';

export interface Connections {
  /** By which the client is to make them. */
  readonly connectionType: ConnectionType | undefined;
  /** From now on its pools open none while the server has not ended those in whose place they would come. */
  boundIn(client: MongoClient): void;
  /** All that the server has, the one that looks how it is included. */
  count(): number;
  /** Those of pools that are not on their way out. */
  countInPools(): number;
  isOpening(): boolean;
  /** When none is being opened, and none is on its way out; or when nobody waits for that any more. Never fails. */
  settled(): Promise<void>;
  /** All of them. */
  end(): void;
}

/**
 * @param hangUpMs how long one that is cut keeps its place where the server does not hang up in return
 * @param cutOff when nobody waits for any server any more
 */
export function createConnections(hangUpMs: number, cutOff: AbortSignal): Connections {
  const open = new Map<Socket, Open>();
  const pools = new Map<string, ConnectionPool>();
  const changes = new EventEmitter();
  const countOf = (is: (one: Open) => boolean): number => {
    let count = 0;
    for (const one of open.values()) if (is(one)) count++;
    return count;
  };
  const isOpening = (): boolean => [...pools.values()].some((pool) => pool.pendingConnectionCount > 0);

  const leave = (socket: Socket, one: Open): void => {
    one.isLeaving = true;
    const giveUp = (): void => void socket.destroy();
    const timer = setTimeout(giveUp, hangUpMs);
    cutOff.addEventListener('abort', giveUp);
    socket.once('close', () => {
      clearTimeout(timer);
      cutOff.removeEventListener('abort', giveUp);
    });
    socket.end();
  };

  const watch = (connection: Connection, pool: string | undefined): void => {
    const { socket } = connection;
    const one = { connection, pool, isLeaving: false };
    open.set(socket, one);
    socket.once('close', () => {
      open.delete(socket);
      if (one.isLeaving && pool !== undefined) pools.get(pool)?.processWaitQueue();
      changes.emit('change');
    });
    socket.destroy = (error) => {
      Reflect.deleteProperty(socket, 'destroy');
      const hasEnded = error !== undefined || socket.readableEnded;
      // What has not been sent must not be sent after all: its caller has gone.
      const isSending = socket.writableLength > 0;
      if (hasEnded || isSending || cutOff.aborted) return socket.destroy(error);
      leave(socket, one);
      return socket;
    };
  };

  return {
    connectionType: connectionTypeOf(watch),
    boundIn(client) {
      onEachServer(client, ({ pool, monitor }) => {
        pools.set(pool.address, pool);
        const own = Object.getPrototypeOf(pool) as ConnectionPool;
        // What it looks at before it opens another one.
        Object.defineProperty(pool, 'totalConnectionCount', {
          get: () =>
            Reflect.get<ConnectionPool, 'totalConnectionCount'>(own, 'totalConnectionCount', pool) +
            countOf((one) => one.isLeaving && one.pool === pool.address),
        });
        pool.createConnection = (then) =>
          own.createConnection.call(pool, (...made) => {
            then(...made);
            changes.emit('change');
          });
        // Anew is over another connection, beside the one that ends. To ask over that one at once does as well: it polls.
        monitor.reset = () => {
          if (monitor.monitorId) monitor.monitorId.lastExecutionEnded = Number.NEGATIVE_INFINITY;
          monitor.requestCheck();
        };
      });
    },
    count: () => open.size,
    countInPools: () => countOf((one) => one.pool !== undefined && !one.isLeaving),
    isOpening,
    async settled() {
      while (!cutOff.aborted && (isOpening() || countOf((one) => one.isLeaving) > 0))
        await once(changes, 'change', { signal: cutOff }).catch(() => undefined);
    },
    end() {
      for (const { connection } of open.values()) connection.destroy();
    },
  };
}

interface Open {
  readonly connection: Connection;
  /** Its address; undefined for one that is of no pool. */
  readonly pool: string | undefined;
  isLeaving: boolean;
}
