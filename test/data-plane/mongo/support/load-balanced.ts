/** A way to a server by which it looks like one behind a load balancer: each connection hears the id of its service. */
import { connect, createServer, type Socket } from 'node:net';
import { BSON } from 'mongodb';
import { openInFront } from '../../../support/in-front.js';
import { HEADER, onEachMessage } from './wire.js';

export async function loadBalanced(to: string) {
  const { hostname: host, port } = new URL(to);
  const sockets = new Set<Socket>();
  const front = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host, port: Number(port), allowHalfOpen: true });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket
        .on('error', () => other.destroy())
        .on('end', () => other.end())
        .on('close', () => sockets.delete(socket));
    }
    near.on('data', (message) => far.write(message));
    onEachMessage(far, (message) => near.write(withService(message)));
  });
  const { url, close } = await openInFront(front, to);
  for (const elsewhere of ['directConnection', 'replicaSet']) url.searchParams.delete(elsewhere);
  url.searchParams.set('loadBalanced', 'true');
  return {
    url: url.href,
    async close() {
      for (const socket of sockets) socket.destroy();
      await close();
    },
  };
}

const SERVICE = new BSON.ObjectId();

/** The answer to a handshake says it, and no other. */
function withService(message: Buffer): Buffer {
  // Flags, and the kind of the section, which is always the one document.
  const begin = HEADER + 5;
  if (!message.includes('maxWireVersion')) return message;
  const said = BSON.deserialize(message.subarray(begin), { promoteValues: false });
  const body = BSON.serialize({ ...said, serviceId: SERVICE });
  const whole = Buffer.concat([message.subarray(0, begin), body]);
  whole.writeInt32LE(whole.length, 0);
  return whole;
}
