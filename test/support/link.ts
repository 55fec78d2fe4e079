/** A way to a server that can be cut as it is when a process is killed: with no goodbye, whatever is under way. */
import { connect, createServer, type Socket } from 'node:net';
import { openInFront } from './in-front.js';

export interface Link {
  /** The server's URL by way of the link. */
  readonly url: string;
  /** How many go through it now. */
  connections(): number;
  /** Every connection that goes through it now; later ones go through again. */
  cut(): void;
  /** Every connection that goes through it now stays open, and nothing comes through any more. */
  hold(): void;
  /** Of every connection that goes through it now: the server gets what it is sent, and what it answers does not come. */
  holdAnswers(): void;
  /** Later connections go to another server. */
  leadTo(to: string): void;
  /** The one that has gone through it for longest, if there is one. */
  cutOldest(): boolean;
  close(): Promise<void>;
}

export async function openLink(to: string): Promise<Link> {
  let server = addressOf(to);
  const sockets = new Set<Socket>();
  const answering = new WeakSet<Socket>();
  const link = createServer((near) => {
    const far = connect(server);
    answering.add(far);
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from
        .on('error', () => undefined)
        .on('close', () => {
          sockets.delete(from);
          into.destroy();
        });
      from.pipe(into);
    }
  });
  const { url, close } = await openInFront(link, to);
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  return {
    url: url.href,
    // Each is a socket on either side.
    connections: () => sockets.size / 2,
    cut,
    hold() {
      for (const socket of sockets) socket.unpipe();
    },
    holdAnswers() {
      for (const socket of sockets) if (answering.has(socket)) socket.unpipe();
    },
    leadTo(other) {
      server = addressOf(other);
    },
    cutOldest() {
      // A Set is in the order of insertion.
      const [oldest] = sockets;
      oldest?.destroy();
      return oldest !== undefined;
    },
    async close() {
      cut();
      await close();
    },
  };
}

const addressOf = (url: string): { host: string; port: number } => {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
};
