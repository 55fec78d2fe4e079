/** A TCP proxy before a server, so that a test can take the server away and bring it back. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** Connections end, new ones are refused at once. */
  cut(): void;
  /** Connections stay and nothing comes through any more: a server that hangs. */
  hang(): void;
  restore(): void;
  close(): Promise<void>;
}

/** @returns the same server's URL by way of the proxy */
export async function proxyBefore(server: string): Promise<{ proxy: Proxy; url: string }> {
  const url = new URL(server);
  const proxy = await proxyTo(url.hostname, Number(url.port));
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

export async function proxyTo(host: string, port: number): Promise<Proxy> {
  let mode: 'open' | 'cut' | 'hang' = 'open';
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    sockets.add(client);
    client.on('close', () => sockets.delete(client));
    client.on('error', () => client.destroy());
    if (mode === 'cut') return void client.destroy();
    const upstream = connect(port, host);
    sockets.add(upstream);
    upstream.on('close', () => {
      sockets.delete(upstream);
      client.destroy();
    });
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
    client.on('data', (bytes) => mode === 'open' && upstream.write(bytes));
    upstream.on('data', (bytes) => mode === 'open' && client.write(bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut() {
      mode = 'cut';
      drop();
    },
    hang() {
      mode = 'hang';
    },
    restore() {
      // What hung has lost bytes and cannot go on.
      if (mode === 'hang') drop();
      mode = 'open';
    },
    async close() {
      drop();
      server.close();
      await once(server, 'close');
    },
  };
}
