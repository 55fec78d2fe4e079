// Which of the servers that speak MongoDB's protocol can be had here.

import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cached, inCache } from './cache.js';
import { flags, run } from './command.js';
import { download } from './download.js';
import { findOnPath, findServer, type Found, onThePath, versionOf, type Way } from './find.js';
import type { MongoKind } from './mongo-flavour.js';
import { installCommand } from './package.js';
import { reported } from './report.js';
import type { ServerOptions } from './server.js';

export interface FoundMongo extends Found {
  readonly kind: MongoKind;
  readonly name: string;
  /** Arguments before the server's own, where the binary is an interpreter. */
  readonly before: readonly string[];
}

export interface MongoSearch {
  /** Only this one; whichever comes first otherwise. */
  readonly prefer?: MongoKind;
  /** How long a download may take to begin before the next way is tried. Default 5 s. */
  readonly beginWithinMs?: number;
  /** The archive of mongod; another one in tests. */
  readonly downloads?: string;
}

type Search = ServerOptions &
  MongoSearch & { readonly env: NodeJS.ProcessEnv; readonly made: MongoKind | undefined };

/** 8.0 is the line with long support; the download is for this machine's distribution and CPU. */
const mongodVersion = '8.0.13';
const secantusVersion = '0.7.0b3';

export function findMongo(o: Search): Promise<FoundMongo> {
  const wanted = o.made ?? o.prefer;
  const python = pythonWays(o);
  const ways: (readonly [MongoKind, Way<FoundMongo>])[] = [
    ['mongod', ofKind('mongod', 'MongoDB', onThePath({ command: 'mongod', atLeast: 7, ...o }))],
    [
      'secantusd-rs',
      ofKind('secantusd-rs', 'SecantusDB', onThePath({ command: 'secantusd-rs', atLeast: 0, ...o })),
    ],
    // What was fetched or built once is taken again, before anything is tried over the network.
    ['mongod', fetchedMongod(o, false)],
    ['secantusd-py', python.kept],
    ['mongod', fetchedMongod(o, true)],
    ['secantusd-py', python.installed],
  ];
  return findServer({
    name: o.made ? `The MongoDB server that made ${o.dataDir} (${o.made})` : 'A MongoDB server',
    ways: ways.flatMap(([kind, way]) => (wanted === undefined || kind === wanted ? [way] : [])),
    mend: () => (o.made ? 'npm run reset (it empties the data folder)' : mend(o)),
    signal: o.signal,
  });
}

async function mend(o: Search): Promise<string> {
  if (findOnPath('brew', o.env)) return 'brew tap mongodb/brew && brew install mongodb-community';
  if (await findPython(o))
    return 'export TENANTRY_CELL_MONGO_URL=mongodb://user:password@host:27017 (a server of yours)';
  return installCommand(o.env, pythonPackages, 'Python 3.10 or later');
}

const pythonPackages = {
  'apt-get': 'python3 python3-venv',
  dnf: 'python3',
  yum: 'python3',
  apk: 'python3',
  zypper: 'python3',
  pacman: 'python',
  brew: 'python',
};

function ofKind(kind: MongoKind, name: string, way: Way): Way<FoundMongo> {
  return {
    looked: way.looked,
    look: async () => {
      const found = await way.look();
      return typeof found === 'string' ? found : { ...found, kind, name, before: [] };
    },
  };
}

/** mongodb-memory-server knows which of MongoDB's archives fits this system; the fetching is ours, with a bound. */
function fetchedMongod(o: Search, fetching: boolean): Way<FoundMongo> {
  const entry = { name: 'mongod', version: mongodVersion, file: 'mongod', env: o.env };
  return {
    looked: fetching
      ? `for MongoDB ${mongodVersion} as a download`
      : `in the cache for MongoDB ${mongodVersion}`,
    look: async () => {
      const binary = fetching
        ? await cached({ ...entry, ...o, make: (folder) => fetchMongod(folder, o) })
        : inCache(entry);
      if (!binary) return 'not there';
      const version = await versionOf(binary, o);
      const where = `mongod, downloaded, ${binary}`;
      return { source: 'embedded', kind: 'mongod', name: 'MongoDB', before: [], binary, version, where };
    },
  };
}

function fetchMongod(folder: string, o: Search): Promise<void> {
  return reported(o.report, `MongoDB: downloading mongod ${mongodVersion}`, async () => {
    const url = o.downloads ?? (await archiveUrl());
    const bounds = {
      signal: o.signal,
      ...(o.beginWithinMs === undefined ? {} : { beginWithinMs: o.beginWithinMs }),
    };
    const archive = path.join(folder, 'mongod.tgz');
    const checksum = `${archive}.sha256`;
    await download(`${url}.sha256`, checksum, bounds);
    await download(url, archive, bounds);
    const hash = createHash('sha256');
    await pipeline(createReadStream(archive), hash);
    if (!readFileSync(checksum, 'utf8').includes(hash.digest('hex')))
      throw new Error(`${url} is not what it should be`);
    const unpacked = path.join(folder, 'unpacked');
    mkdirSync(unpacked);
    await run('tar', ['-xzf', archive, '-C', unpacked, '--strip-components=1'], {
      env: o.env,
      signal: o.signal,
    });
    const binary = path.join(folder, 'mongod');
    await run('mv', [path.join(unpacked, 'bin', 'mongod'), binary], { env: o.env });
    for (const spare of [archive, checksum, unpacked]) rmSync(spare, { recursive: true });
    // A CPU without AVX or a missing library shows here, and the next way is tried.
    await versionOf(binary, o);
  });
}

async function archiveUrl(): Promise<string> {
  const { MongoBinaryDownloadUrl } = await import(
    'mongodb-memory-server-core/lib/util/MongoBinaryDownloadUrl.js'
  );
  const { getOS } = await import('mongodb-memory-server-core/lib/util/getos/index.js');
  const { platform, arch } = process;
  return new MongoBinaryDownloadUrl({
    platform,
    arch,
    version: mongodVersion,
    os: await getOS(),
  }).getDownloadUrl();
}

/** The interpreter of the environment rather than its scripts: they hold the path at which they were made. */
function pythonWays(o: Search): { kept: Way<FoundMongo>; installed: Way<FoundMongo> } {
  const entry = { name: 'secantusdb', version: secantusVersion, file: 'bin/python', env: o.env };
  const found = (binary: string): FoundMongo => ({
    source: 'embedded',
    kind: 'secantusd-py',
    name: 'SecantusDB',
    binary,
    before: ['-c', 'import sys; from secantus.cli import main; sys.exit(main())'],
    version: secantusVersion,
    where: `secantusd-py from PyPI, ${path.dirname(binary)}`,
  });
  return {
    kept: {
      looked: `in the cache for SecantusDB ${secantusVersion}`,
      look: async () => {
        const binary = inCache(entry);
        if (!binary) return 'not there';
        // An upgrade of the system's Python leaves an environment that no longer runs: make it again.
        const works = await run(binary, ['-c', 'import secantus.cli'], o).then(
          () => true,
          () => false,
        );
        o.signal?.throwIfAborted();
        if (works) return found(binary);
        rmSync(path.dirname(path.dirname(binary)), { recursive: true, force: true });
        return 'its Python is gone';
      },
    },
    installed: {
      looked: `for SecantusDB ${secantusVersion} on PyPI`,
      look: async () => {
        const python = await findPython(o);
        if (!python) return 'no Python 3.10 or later on the PATH';
        const make = (folder: string) =>
          reported(o.report, `MongoDB: installing SecantusDB ${secantusVersion} from PyPI`, () =>
            installSecantus(python, folder, o),
          );
        return found(await cached({ ...entry, ...o, make }));
      },
    },
  };
}

async function installSecantus(python: string, folder: string, o: Search): Promise<void> {
  const call = (command: string, args: string[]) =>
    run(command, args, { env: o.env, signal: o.signal, withinMs: 600_000 });
  await call(python, ['-m', 'venv', folder]);
  await call(path.join(folder, 'bin', 'python'), [
    '-m',
    'pip',
    'install',
    '--disable-pip-version-check',
    '--no-input',
    ...flags({ '--timeout': 15, '--retries': 1 }),
    `SecantusDB==${secantusVersion}`,
  ]);
}

async function findPython(o: Search): Promise<string | undefined> {
  for (const name of [
    'python3',
    'python3.14',
    'python3.13',
    'python3.12',
    'python3.11',
    'python3.10',
    'python',
  ]) {
    const binary = findOnPath(name, o.env);
    if (!binary) continue;
    try {
      await run(binary, ['-c', 'import sys; sys.exit(sys.version_info < (3, 10))'], {
        ...o,
        withinMs: 20_000,
      });
      return binary;
    } catch {
      o.signal?.throwIfAborted();
      // Too old, or a shim without a Python behind it: the next name.
    }
  }
  return undefined;
}
