/** A way to PostgreSQL on which it says of each statement that fails why, and only a while later that it is ready for the next. */
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { openInFront } from '../../support/in-front.js';

export interface LateReady {
  readonly url: string;
  /** How often it was sent something between the two. */
  interruptions(): number;
  close(): Promise<void>;
}

/** @param lateMs how much later */
export async function openLateReady(to: string, lateMs: number): Promise<LateReady> {
  const { hostname: host, port } = new URL(to);
  const sockets = new Set<Socket>();
  let interruptions = 0;
  const way = createServer((near) => {
    // What it says first is not to wait for what it says next.
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
      // But for a goodbye.
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
