// MongoDB on this machine: the environment's, or one of three servers that speak its protocol.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { MongoClient } from 'mongodb';
import { findMongo, type MongoSearch } from './mongo-binary.js';
import { withClient } from './mongo-client.js';
import type { MongoKind } from './mongo-flavour.js';
import { mongod } from './mongod.js';
import { accepts } from './ports.js';
import { secantus } from './secantus.js';
import { secretIn, writePrivate } from './secret.js';
import { existingServer, type RunningServer, type ServerOptions, startedServer } from './server.js';
import { stopLeftover, supervise, type ServerPlan } from './supervise.js';

const variable = 'TENANTRY_CELL_MONGO_URL';

export interface MongoOptions extends ServerOptions, MongoSearch {
  /** false: anybody who reaches the port may do anything. For tests of what is refused then. Default true. */
  readonly auth?: boolean;
}

export type MongoServer = RunningServer & { readonly kind: MongoKind | 'unknown' };

export async function startMongo(o: MongoOptions): Promise<MongoServer> {
  const env = o.env ?? process.env;
  const existing = env[variable];
  if (existing) {
    const server = await existingServer({ name: 'MongoDB', variable, url: existing, version: askVersion });
    return Object.assign(server, { kind: 'unknown' as const });
  }
  const folder = path.join(o.dataDir, 'mongo');
  const data = path.join(folder, 'data');
  mkdirSync(folder, { recursive: true });
  // The three have three formats on disk, so the data decide once they are there.
  const madeBy = path.join(folder, 'made-by');
  const made = existsSync(data) ? (readFileSync(madeBy, 'utf8').trim() as MongoKind) : undefined;
  const found = await findMongo({ ...o, env, made });

  const flavour = found.kind === 'mongod' ? mongod : secantus;
  const password = secretIn(path.join(folder, 'password'));
  const auth = o.auth ?? true;
  const urlOf = (port: number, user?: 'root') => {
    const options = {
      ...(user ? { authSource: 'admin' } : {}),
      directConnection: 'true',
      ...flavour.urlOptions,
    };
    return `mongodb://${user ? `root:${password}@` : ''}127.0.0.1:${port}/?${new URLSearchParams(options).toString()}`;
  };
  const planOf = (place: string, withAuth: boolean, answers: ServerPlan['answers']): ServerPlan => ({
    name: 'MongoDB',
    folder,
    report: o.report,
    signal: o.signal,
    stopSignal: 'SIGTERM',
    answers,
    launch: (port) => ({
      command: found.binary,
      args: [...found.before, ...flavour.args({ port, data: place, folder, auth: withAuth })],
      env,
    }),
  });

  // None of them lets anybody in before there is a user, so a first start makes one. Whole or not at all: data of a
  // first start that was killed may be beyond repair, so it happens in a draft that is thrown away then.
  if (!made) {
    const draft = path.join(folder, 'data.draft');
    const begin = async (withAuth: boolean) =>
      supervise(planOf(draft, withAuth, (port) => withClient(urlOf(port), (client) => ping(client))));
    await stopLeftover({ name: 'MongoDB', folder, report: o.report, stopSignal: 'SIGTERM' });
    rmSync(draft, { recursive: true, force: true });
    mkdirSync(draft);
    await flavour.makeRoot({ password, begin, urlOf });
    writePrivate(madeBy, found.kind);
    renameSync(draft, data);
  }
  const user = auth ? 'root' : undefined;
  const server = await supervise(
    planOf(data, auth, async (port) => {
      await accepts('127.0.0.1', port);
      await withClient(urlOf(port, user), (client) => flavour.ready(client, port));
    }),
  );
  const started = startedServer(server, { name: found.name, url: urlOf(server.port, user), found });
  return Object.assign(started, { kind: found.kind });
}

async function ping(client: MongoClient): Promise<void> {
  await client.db('admin').command({ ping: 1 });
}

function askVersion(url: string): Promise<string> {
  return withClient(url, async (client) => {
    const info = await client.db('admin').command({ buildInfo: 1 });
    return String(info['version']);
  });
}
