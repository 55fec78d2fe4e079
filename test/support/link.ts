/** A way to a server that can be cut as it is when a process is killed: with no goodbye, whatever is under way. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Link {
  /** The server's URL by way of the link. */
  readonly url: string;
  /** Every connection that goes through it now; later ones go through again. */
  cut(): void;
  /** Every connection that goes through it now stays open, and nothing comes through any more. */
  hold(): void;
  /** Later connections go to another server. */
  leadTo(to: string): void;
  close(): Promise<void>;
}

export async function openLink(to: string): Promise<Link> {
  const url = new URL(to);
  let port = Number(url.port);
  const sockets = new Set<Socket>();
  const link = createServer((near) => {
    const far = connect({ host: '127.0.0.1', port });
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => undefined).on('close', () => into.destroy());
      from.pipe(into);
    }
  });
  await once(link.listen(0, '127.0.0.1'), 'listening');
  url.port = String((link.address() as AddressInfo).port);
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  return {
    url: url.href,
    cut,
    hold() {
      for (const socket of sockets) socket.unpipe();
    },
    leadTo(other) {
      port = Number(new URL(other).port);
    },
    async close() {
      cut();
      link.close();
      await once(link, 'close');
    },
  };
}
