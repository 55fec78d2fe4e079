/** Where a test's server listens that stands between a client and another server. */
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';

/** Listens on a free port. The url is the other server's, by way of this one. */
export async function openInFront(way: Server, to: string | URL) {
  const url = new URL(to);
  await once(way.listen(0, '127.0.0.1'), 'listening');
  url.hostname = '127.0.0.1';
  url.port = String((way.address() as AddressInfo).port);
  return {
    url,
    /** When every connection has ended: whoever made them ends them before. */
    async close(): Promise<void> {
      way.close();
      await once(way, 'close');
    },
  };
}
