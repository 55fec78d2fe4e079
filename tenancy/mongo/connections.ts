/**
 * Counts a client's connections until the server has closed them too. A socket that is destroyed is gone for this process at
 * once, but for the server only a moment later. If another connection took its place in between, the server would see more
 * connections than are allowed.
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
  /** For the client's option of that name. Undefined when the driver's internals are not as expected. */
  readonly connectionType: ConnectionType | undefined;
  /** From now on the client's pools open a connection only when the server has closed the one whose place it takes. */
  boundIn(client: MongoClient): void;
  /** All connections that the server has, monitoring included. */
  count(): number;
  /** Connections in pools, without those that are being closed. */
  countInPools(): number;
  isOpening(): boolean;
  /** Resolves when none is being opened or closed, or once `cutOff` is aborted. Never rejects. */
  settled(): Promise<void>;
  /** Destroys all connections. */
  end(): void;
}

/**
 * @param hangUpMs how long a connection that we end waits for the server to close it too, in milliseconds
 * @param cutOff aborted when the server is not to be waited for any more
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
      // Ending the socket would still send what is buffered, although its caller has gone: destroy it instead.
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
        // The pool reads this before it opens another connection.
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
        // A reset would open another connection beside the one that is being closed. The monitor polls, so it is enough to
        // have it check at once.
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
  /** The pool's address; undefined for a monitoring connection. */
  readonly pool: string | undefined;
  isLeaving: boolean;
}
