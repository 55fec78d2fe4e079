/**
 * Asks the server to cancel what runs on a connection: a connection of its own that says who is meant and is closed
 * (PostgreSQL's protocol, "Canceling Requests in Progress"). There is no answer but the close.
 */
import { connect, type Socket } from 'node:net';
import { connect as secure } from 'node:tls';
import type { Connection } from './connection.js';

const CANCEL_REQUEST = 80877102;
const SSL_REQUEST = 80877103;
const WITHIN_MS = 2_000;

export async function cancelBackend({ client, backend }: Connection): Promise<void> {
  const { host, port } = client;
  const plain = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  const socket = await within(plain, async () => {
    await happens(plain, 'connect');
    return client.ssl ? await overTls(plain, client) : plain;
  });
  await within(socket, async () => {
    socket.write(int32s(16, CANCEL_REQUEST, backend.processID, backend.secretKey));
    await happens(socket, 'close');
  });
}

async function overTls(
  plain: Socket,
  client: { readonly host: string; readonly ssl: unknown },
): Promise<Socket> {
  plain.write(int32s(8, SSL_REQUEST));
  const [answer] = (await happens(plain, 'data')) as [Buffer];
  if (answer.toString('latin1') !== 'S') throw new Error('the server does not support TLS');
  const options = typeof client.ssl === 'object' && client.ssl !== null ? client.ssl : {};
  const socket = secure({ ...options, socket: plain, host: client.host });
  await happens(socket, 'secureConnect');
  return socket;
}

const happens = (socket: Socket, event: string): Promise<unknown[]> =>
  new Promise((resolve, reject) => {
    socket.once(event, (...values: unknown[]) => resolve(values));
    socket.once('error', reject);
  });

async function within<T>(socket: Socket, work: () => Promise<T>): Promise<T> {
  socket.on('error', () => undefined);
  const timer = setTimeout(() => socket.destroy(new Error('no answer to a cancel request')), WITHIN_MS);
  try {
    return await work();
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function int32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeInt32BE(value, index * 4);
  return bytes;
}
