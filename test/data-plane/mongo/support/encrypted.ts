/** A way to a server over TLS, with a certificate that nobody has signed. */
import { execFile } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { createServer } from 'node:tls';
import { promisify } from 'node:util';
import { openInFront } from '../../../support/in-front.js';

/** Undefined where there is no openssl, which is said. */
export async function encrypted(to: string) {
  const pem = await certificate();
  if (pem === undefined) {
    process.stderr.write('TLS is not tried: there is no openssl to make a certificate with\n');
    return undefined;
  }
  const { hostname: host, port } = new URL(to);
  const sockets = new Set<Socket>();
  const greeted = new Set<number | undefined>();
  let [count, peak, endMs] = [0, 0, 0];
  const front = createServer({ key: pem, cert: pem, allowHalfOpen: true }, (near) => {
    greeted.add(near.remotePort);
    const far = connect({ host, port: Number(port), allowHalfOpen: true });
    for (const socket of [near, far])
      sockets.add(socket.on('error', () => undefined).on('close', () => sockets.delete(socket)));
    near.pipe(far, { end: false });
    near.on('end', () => setTimeout(() => far.end(), endMs));
    near.on('close', () => far.destroy());
    far.pipe(near);
  });
  front.on('connection', (raw: Socket) => {
    const { remotePort } = raw;
    sockets.add(raw);
    peak = Math.max(peak, ++count);
    // One that was cut while it was greeted hears of that late too.
    raw.on('close', () => {
      sockets.delete(raw);
      setTimeout(() => count--, greeted.has(remotePort) ? 0 : endMs);
    });
  });
  front.on('tlsClientError', () => undefined);
  const { url, close } = await openInFront(front, to);
  url.searchParams.set('tls', 'true');
  url.searchParams.set('tlsAllowInvalidCertificates', 'true');
  return {
    url: url.href,
    /** The most connections that it had at once. */
    peak: () => peak,
    /** From now on it hears that a connection has ended so many milliseconds later. */
    delayEnds(ms: number) {
      endMs = ms;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await close();
    },
  };
}

/** With its key. */
async function certificate(): Promise<string | undefined> {
  const what = '-x509 -newkey rsa:2048 -nodes -keyout - -out - -days 1 -subj /CN=localhost'.split(' ');
  try {
    const { stdout } = await promisify(execFile)('openssl', ['req', ...what]);
    return stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
