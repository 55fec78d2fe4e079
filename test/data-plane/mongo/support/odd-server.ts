/** A server that speaks MongoDB's protocol as far as a login, and says in it what it is told to. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { BSON, type Document } from 'mongodb';

export interface OddServer {
  readonly url: string;
  close(): void;
}

/** @param answer to the first and the last message of a login */
export async function openOddServer(answer: (command: Document) => Document): Promise<OddServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    let received = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes]);
      while (received.length >= 4 && received.length >= received.readInt32LE(0)) {
        const message = received.subarray(0, received.readInt32LE(0));
        received = received.subarray(message.length);
        socket.write(replyTo(message, answer));
      }
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `mongodb://127.0.0.1:${(server.address() as AddressInfo).port}/?directConnection=true`,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const [HEADER, OP_REPLY, OP_QUERY, OP_MSG] = [16, 1, 2004, 2013];
const HELLO = { ok: 1, ismaster: true, maxWireVersion: 21, minWireVersion: 0, maxBsonObjectSize: 16_777_216 };

function replyTo(message: Buffer, answer: (command: Document) => Document): Buffer {
  const isQuery = message.readInt32LE(12) === OP_QUERY;
  // Of a query: flags, the namespace up to its end, two numbers. Of a message: flags, the kind of its section.
  const begin = isQuery ? message.indexOf(0, HEADER + 4) + 9 : HEADER + 5;
  const command = BSON.deserialize(message.subarray(begin, begin + message.readInt32LE(begin)));
  const { speculativeAuthenticate: start } = command as { readonly speculativeAuthenticate?: Document };
  const said = isQuery
    ? { ...HELLO, ...(start ? { speculativeAuthenticate: answer(start) } : {}) }
    : { ok: 1, ...('saslStart' in command || 'saslContinue' in command ? answer(command) : {}) };
  const body = BSON.serialize(said);
  const before = Buffer.alloc(HEADER + (isQuery ? 20 : 5));
  before.writeInt32LE(before.length + body.length, 0);
  before.writeInt32LE(message.readInt32LE(4), 8);
  before.writeInt32LE(isQuery ? OP_REPLY : OP_MSG, 12);
  if (isQuery) before.writeInt32LE(1, HEADER + 16);
  return Buffer.concat([before, body]);
}
