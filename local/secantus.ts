// SecantusDB, in Rust or in Python: MongoDB's protocol on MongoDB's own storage engine, one server, no replica set.

import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { flags } from './command.js';
import { withClient } from './mongo-client.js';
import type { Flavour } from './mongo-flavour.js';

export const secantus: Flavour = {
  // It does not recognise a write that the driver sends twice.
  urlOptions: { retryWrites: 'false' },

  args(o) {
    // An empty configuration of its own: without one it takes any secantusd.toml of the user or the system.
    const config = path.join(o.folder, 'secantusd.toml');
    if (!existsSync(config)) writeFileSync(config, '');
    return flags({
      '--config': config,
      '--host': '127.0.0.1',
      '--port': o.port,
      '--storage-path': o.data,
      '--cache-size': '512M',
      // Without it a SIGKILL loses the last acknowledged writes, and users with them.
      '--sync-on-commit': true,
      '--auth': o.auth,
      '--log-level': 'WARNING',
    });
  },

  /** It has no localhost exception: the user is made while it runs without --auth, on loopback. */
  async makeRoot({ password, begin, urlOf }) {
    const server = await begin(false);
    try {
      await withClient(urlOf(server.port), async (client) => {
        await client.db('admin').command({ createUser: 'root', pwd: password, roles: ['root'] });
      });
    } finally {
      // Not asked to leave, which takes it seconds: what it acknowledged is on the disk.
      await server.kill();
    }
  },

  async ready(client) {
    await client.db('admin').command({ listDatabases: 1, nameOnly: true });
  },
};
