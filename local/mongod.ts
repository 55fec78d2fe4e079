// mongod as a replica set of one: transactions and retryable writes need one, also with a single member.

import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type MongoClient, MongoServerError } from 'mongodb';
import { flags } from './command.js';
import { withClient } from './mongo-client.js';
import type { Flavour } from './mongo-flavour.js';
import { secretIn } from './secret.js';
import { reasonOf } from './reason.js';

const set = 'tenantry';

export const mongod: Flavour = {
  // With a journaled majority of one, acknowledged means on disk.
  urlOptions: { w: 'majority', journal: 'true' },

  args(o) {
    return flags({
      '--port': o.port,
      '--bind_ip': '127.0.0.1',
      '--nounixsocket': true,
      '--dbpath': o.data,
      '--replSet': set,
      '--wiredTigerCacheSizeGB': '0.5',
      '--setParameter': 'diagnosticDataCollectionEnabled=false',
      '--auth': o.auth,
      // Members of a set with authentication know each other by this file, also when there is one member.
      ...(o.auth ? { '--keyFile': keyFileIn(o.folder) } : {}),
    });
  },

  /**
   * The localhost exception: until the first user exists, a connection from this machine may initiate the set and
   * create that user, and nothing else (MongoDB manual, "Localhost Exception in Self-Managed Deployments").
   */
  async makeRoot({ password, begin, urlOf }) {
    const server = await begin(true);
    try {
      await withClient(urlOf(server.port), async (client) => {
        await untilPrimary(client, server.port);
        await client.db('admin').command({ createUser: 'root', pwd: password, roles: ['root'] });
      });
    } finally {
      await server.stop();
    }
  },

  ready: ensurePrimary,
};

/** Initiates the set, or mends its configuration, and throws until this member is the primary. */
async function ensurePrimary(client: MongoClient, port: number): Promise<void> {
  const admin = client.db('admin');
  const hello = await admin.command({ hello: 1 });
  const host = `127.0.0.1:${port}`;
  if (hello['isWritablePrimary'] === true && hello['me'] === host) return;
  const status = await codeOf(admin.command({ replSetGetStatus: 1 }));
  const members = [{ _id: 0, host }];
  if (status === notYetInitialized) {
    await admin.command({ replSetInitiate: { _id: set, members } });
  } else if (status === invalidConfig) {
    // The port is another one than last time, so the only member does not find itself in the configuration.
    const { config } = (await admin.command({ replSetGetConfig: 1 })) as unknown as { config: Config };
    await admin.command({
      replSetReconfig: { ...config, version: config.version + 1, members },
      force: true,
    });
  }
  throw new Error(`mongod is not yet the primary of its set (${status ?? 'electing'})`);
}

interface Config {
  readonly version: number;
}

// error_codes.yml of MongoDB
const invalidConfig = 93;
const notYetInitialized = 94;

async function untilPrimary(client: MongoClient, port: number): Promise<void> {
  const end = performance.now() + 30_000;
  for (;;) {
    try {
      return await ensurePrimary(client, port);
    } catch (error) {
      if (performance.now() > end)
        throw new Error(`No primary after 30 s: ${reasonOf(error)}`, { cause: error });
      await delay(50);
    }
  }
}

/** The code with which the server refused; undefined when it did not. */
async function codeOf(command: Promise<unknown>): Promise<number | undefined> {
  try {
    await command;
    return undefined;
  } catch (error) {
    if (error instanceof MongoServerError && typeof error.code === 'number') return error.code;
    throw error;
  }
}

/** mongod takes 6 to 1024 characters of base64 in a file that nobody else may read. */
function keyFileIn(folder: string): string {
  const file = path.join(folder, 'key-file');
  secretIn(file);
  return file;
}
