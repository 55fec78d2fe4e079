/** Servers whose data nobody wants any more. */
import type { RunningServer } from '../../local/server.js';

/** Killed where they are ours, as two of them take seconds to leave; not PostgreSQL, which would leave its shared memory. */
export async function discard(servers: readonly RunningServer[]): Promise<void> {
  await Promise.all(
    servers.map((server) =>
      server.source === 'environment' || server.url.startsWith('postgres') ? server.stop() : server.kill(),
    ),
  );
}
