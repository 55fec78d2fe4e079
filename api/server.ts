/** Serves the application: limits on what a client may take up, and an end that lets requests finish. */
import { createServer, IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Express } from 'express';

export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** Takes no more requests, lets those under way finish for so many milliseconds, then cuts what is left. */
  close(grace: number): Promise<void>;
}

export async function serve(
  app: Express,
  { host, port }: { host: string; port: number },
): Promise<RunningServer> {
  const server = createServer(
    {
      ...prototypesOf(app),
      // Milliseconds. A client that sends its head or its body drop by drop is cut off.
      headersTimeout: 10_000,
      requestTimeout: 30_000,
      // Longer than a balancer keeps its own: the side that closes first must not be the one that is being asked.
      keepAliveTimeout: 75_000,
      connectionsCheckingInterval: 5_000,
      maxHeaderSize: 16_384,
    },
    app,
  );
  // All that the size above lets in: those beyond a count would be left out without a word, an Idempotency-Key like any other.
  server.maxHeadersCount = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  // A server that listens on TCP has an address of this kind; only one on a pipe has a string.
  const address = server.address() as AddressInfo;
  const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${shown}:${address.port}`,
    port: address.port,
    close: (grace) => close(server, grace),
  };
}

const IDLE_CHECK_MS = 50;

async function close(server: Server, grace: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection is idle once its answer is out, and would be kept for the client's next request.
  const letGo = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const cut = setTimeout(() => server.closeAllConnections(), grace);
  await closed;
  clearInterval(letGo);
  clearTimeout(cut);
}

/**
 * Requests and responses that are born with the application's prototypes. Express sets them on each one otherwise,
 * which makes V8 drop what it learnt of their shape, and with it some two thirds of the throughput.
 */
export function prototypesOf(app: Express): {
  IncomingMessage: typeof IncomingMessage;
  ServerResponse: typeof ServerResponse;
} {
  return {
    IncomingMessage: withPrototype(IncomingMessage, app.request),
    ServerResponse: withPrototype(ServerResponse, app.response),
  };
}

/** The constructor, but what it makes has that prototype, which itself descends from the constructor's. */
function withPrototype<C extends abstract new (...args: never[]) => object>(base: C, prototype: object): C {
  const made = function (...args: unknown[]): object {
    return Reflect.construct(base, args, made) as object;
  };
  made.prototype = prototype;
  // It is called with `new` and gives what the base gives; a plain function cannot say so in types.
  return made as unknown as C;
}
