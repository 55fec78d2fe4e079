/**
 * Ends a client's connections so that the server is known to have ended them too. A socket that is only destroyed is gone for
 * this process at once, and for the server a moment later: a connection that takes its place meanwhile is one more than was
 * allowed.
 */
import type { Socket } from 'node:net';
import type { MongoClient } from 'mongodb';
import { type Connection, type ConnectionPool, onEachPool } from './driver-inside.js';

export interface HangUps {
  /**
   * From now on it keeps its place, whoever ends it, until the server has ended it too.
   * @param address of its pool; none for a connection that is of no pool
   */
  watch(connection: Connection, address?: string): void;
  /** When the server has ended all that are on their way out. Never fails. */
  done(): Promise<void>;
}

/**
 * @param longestMs a server that does not hang up in return must not keep a place for ever
 * @param cutOff when nobody waits for any server any more
 */
export function createHangUps(client: MongoClient, longestMs: number, cutOff: AbortSignal): HangUps {
  const pools = new Map<string, ConnectionPool>();
  const leaving = new Map<Socket, Leaving>();
  const countOf = (address: string): number => {
    let count = 0;
    for (const socket of leaving.values()) if (socket.address === address) count++;
    return count;
  };
  onEachPool(client, (pool) => {
    const { address } = pool;
    pools.set(address, pool);
    const own = Object.getPrototypeOf(pool) as ConnectionPool;
    // What it looks at before it opens another one.
    Object.defineProperty(pool, 'totalConnectionCount', {
      get: () =>
        Reflect.get<ConnectionPool, 'totalConnectionCount'>(own, 'totalConnectionCount', pool) +
        countOf(address),
    });
  });

  const leave = (socket: Socket, address: string | undefined): void => {
    const gone = new Promise<void>((resolve) => {
      const giveUp = (): void => void socket.destroy();
      const timer = setTimeout(giveUp, longestMs);
      cutOff.addEventListener('abort', giveUp);
      socket.once('close', () => {
        clearTimeout(timer);
        cutOff.removeEventListener('abort', giveUp);
        leaving.delete(socket);
        resolve();
        if (address !== undefined) pools.get(address)?.processWaitQueue();
      });
    });
    leaving.set(socket, { address, gone });
    socket.end();
  };

  return {
    watch({ socket }, address) {
      if (socket.destroyed || leaving.has(socket)) return;
      socket.destroy = (error) => {
        Reflect.deleteProperty(socket, 'destroy');
        const hasEnded = error !== undefined || socket.readableEnded;
        // What has not been sent must not be sent after all: its caller has gone.
        const isSending = socket.writableLength > 0;
        if (hasEnded || isSending || cutOff.aborted) return socket.destroy(error);
        leave(socket, address);
        return socket;
      };
    },
    async done() {
      await Promise.all([...leaving.values()].map(({ gone }) => gone));
    },
  };
}

interface Leaving {
  readonly address: string | undefined;
  readonly gone: Promise<void>;
}
