/** MongoDB's messages as they come over a socket. https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/ */
import type { Socket } from 'node:net';

/** Four numbers: the length of all, its own number, the one that it answers, and what it is. */
export const HEADER = 16;
export const OP_MSG = 2013;

/** Each as a whole, however it comes. */
export function onEachMessage(socket: Socket, use: (message: Buffer) => void): void {
  let received = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => {
    received = Buffer.concat([received, bytes]);
    while (received.length >= 4 && received.length >= received.readInt32LE(0)) {
      const message = received.subarray(0, received.readInt32LE(0));
      received = received.subarray(message.length);
      use(message);
    }
  });
}
