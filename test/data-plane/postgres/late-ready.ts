/** A proxy that delays the ReadyForQuery after each failed statement, so that it comes long after the error. */
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { openInFront } from '../../support/in-front.js';

export interface LateReady {
  readonly url: string;
  /** How often a client sent something between the two, other than a goodbye. */
  interruptions(): number;
  close(): Promise<void>;
}

export async function openLateReady(to: string, lateMs: number): Promise<LateReady> {
  const { hostname: host, port } = new URL(to);
  const sockets = new Set<Socket>();
  let interruptions = 0;
  const way = createServer((near) => {
    // The error is not to wait for the ReadyForQuery.
    near.setNoDelay(true);
    const far = connect({ host, port: Number(port), noDelay: true });
    let isReady = true;
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const)
      sockets.add(
        one.on('error', () => other.destroy()).on('close', () => sockets.delete(one) && other.destroy()),
      );
    near.on('data', (message) => {
      if (!isReady && message[0] !== 'X'.charCodeAt(0)) interruptions++;
      far.write(message);
    });
    void (async () => {
      for await (const message of messagesOf(far)) {
        const type = String.fromCharCode(message[0] ?? 0);
        if (type === 'E') isReady = false;
        const isLate = type === 'Z' && !isReady;
        if (isLate) await pause(lateMs);
        if (isLate) isReady = true;
        near.write(message);
        // And a while before it takes the next up.
        if (isLate) await pause(lateMs);
      }
    })().catch(() => near.destroy());
  });
  const { url, close } = await openInFront(way, to);
  return {
    url: url.href,
    interruptions: () => interruptions,
    async close() {
      for (const socket of sockets) socket.destroy();
      await close();
    },
  };
}

/** Of the server: a letter, a length that counts itself, and so much. */
async function* messagesOf(server: Socket): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const bytes of server as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
      const length = 1 + rest.readUInt32BE(1);
      yield rest.subarray(0, length);
      rest = rest.subarray(length);
    }
  }
}
