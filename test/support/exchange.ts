/** Bytes as they are, on a connection of their own: for what no client of Node's would send. */
import { connect } from 'node:net';

/** All that comes back until the server of this machine ends the connection, or cuts it. */
export async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  // The server may cut off a client that is not done writing.
  socket.on('error', () => socket.destroy());
  socket.write(bytes);
  await new Promise((closed) => socket.once('close', closed));
  return Buffer.concat(chunks).toString('utf8');
}
