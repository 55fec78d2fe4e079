// Free ports, never fixed ones.

import { createServer, connect } from 'node:net';
import { randomInt } from 'node:crypto';

// Below the ephemeral range of Linux (32768) and macOS (49152). A port inside it can be taken by any outgoing
// connection while its server is down, even by a client of that server that connects to itself.
const lowest = 20_000;
const highest = 32_000;

/** `preferred` when nobody has it (so that a URL stays the same from one start to the next), else another. */
export async function freePort(preferred?: number): Promise<number> {
  if (preferred !== undefined && (await isFree(preferred))) return preferred;
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(lowest, highest);
    if (await isFree(port)) return port;
  }
  throw new Error(`No free port between ${lowest} and ${highest} on 127.0.0.1 after 100 attempts.`);
}

/** Resolves when something accepts connections there; otherwise rejects, at the latest after `withinMs`. */
export function accepts(host: string, port: number, withinMs = 2_000): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.setTimeout(withinMs, () => socket.destroy(new Error(`no answer within ${withinMs} ms`)));
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false);
      else reject(error);
    });
    server.listen({ host: '127.0.0.1', port }, () => server.close(() => resolve(true)));
  });
}
