// Nothing that was started stays behind, and nothing that was not started is stopped.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import {
  commandOf,
  identityOf,
  isAlive,
  type ProcessIdentity,
  sendSignal,
  treeOf,
} from '../../local/identity.js';
import { findOnPath } from '../../local/find.js';
import { isLock, tryLock } from '../../local/lock.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport as report } from '../../local/report.js';
import { reset } from '../../local/reset.js';
import { StackInUseError, startStack } from '../../local/stack.js';
import { anyServer, listening, noted, otherProcess, type Place, places, until } from './support.js';

jest.setTimeout(60_000);
const place = places();
const env = anyServer();

it('ends its servers when the process that started them is killed', async () => {
  const here = place();
  const { parent, redis } = await redisOfAnother(here);
  sendSignal(parent, 'SIGKILL');
  await until('Redis is gone', () => !isAlive(redis));
});

it('finds and stops what a killed stack left, when its watchdog was killed too', async () => {
  const here = place();
  const { parent, redis } = await redisOfAnother(here);
  const watchdog = treeOf(parent).find((pid) => commandOf(pid)?.includes('watchdog.mjs'));
  sendSignal(watchdog ?? -1, 'SIGKILL');
  sendSignal(parent, 'SIGKILL');
  await until('the parent is gone', () => identityOf(parent) === undefined);
  expect(isAlive(redis)).toBe(true);

  const said = listening();
  const server = await startRedis({ dataDir: here.folder, report: said, env });
  here.after(() => server.stop());
  expect(said.lines).toEqual([`Redis: an earlier stack left process ${redis.pid} running; stopping it`]);
  expect(isAlive(redis)).toBe(false);
});

it('leaves a stranger alone that got the pid of a former server', async () => {
  const here = place();
  const stranger = strangerIn(here);
  for (const name of ['redis', 'postgres']) {
    mkdirSync(path.join(here.folder, name));
    const note = { port: 20_001, process: { pid: stranger.pid, started: 'another time' } };
    writeFileSync(path.join(here.folder, name, 'server.json'), JSON.stringify(note));
  }
  const redis = await startRedis({ dataDir: here.folder, report, env });
  here.after(() => redis.stop());
  const postgres = await startPostgres({ dataDir: here.folder, report, env });
  here.after(() => postgres.stop());
  // PostgreSQL's own lock file, too: a killed server's pid that is somebody else's now.
  await postgres.kill();
  const file = path.join(here.folder, 'postgres', 'data', 'postmaster.pid');
  const lines = readFileSync(file, 'utf8').split('\n');
  writeFileSync(file, [stranger.pid, ...lines.slice(1)].join('\n'));
  const again = await startPostgres({ dataDir: here.folder, report, env });
  here.after(() => again.stop());
  expect(isAlive(stranger)).toBe(true);
});

it('starts the four side by side, one stack at a time, and stops them all', async () => {
  const here = place();
  const dataDir = path.join(here.folder, 'data');
  const stack = await startStack({ dataDir, persistent: false, report, env });
  here.after(() => stack.stop());
  const servers = [stack.postgres, stack.mongo, stack.redis, stack.temporal];
  const identities = servers.map((server) => identityOf(server.pid ?? -1) as ProcessIdentity);
  expect(identities.every(isAlive)).toBe(true);

  const second = startStack({ dataDir, persistent: false, report, env });
  await expect(second).rejects.toThrow(StackInUseError);
  await expect(second).rejects.toThrow(`Process ${process.pid} already runs a stack in ${dataDir}`);
  await expect(reset(dataDir, report)).rejects.toThrow(`Process ${process.pid} runs a stack`);
  expect(identities.every(isAlive)).toBe(true);

  await stack.stop();
  expect(identities.some(isAlive)).toBe(false);
  const lock = tryLock(path.join(dataDir, 'stack.lock'));
  expect(isLock(lock)).toBe(true);
  if (isLock(lock)) lock.release();
  await reset(dataDir, report);
  expect(existsSync(dataDir)).toBe(false);
});

it('stops the others and tells the reason when one cannot be started', async () => {
  const here = place();
  const broken = { ...env, TENANTRY_CELL_MONGO_URL: 'mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100' };
  const start = startStack({ dataDir: here.folder, persistent: false, report, env: broken });
  await expect(start).rejects.toThrow(/^TENANTRY_CELL_MONGO_URL names mongodb:\/\/127\.0\.0\.1:1\//);
  for (const name of ['postgres', 'redis', 'temporal']) {
    const folder = path.join(here.folder, name);
    if (existsSync(path.join(folder, 'server.json'))) expect(isAlive(noted(folder))).toBe(false);
  }
});

it('keeps passwords in files for their owner alone, and out of the arguments', async () => {
  const here = place();
  const server = await startRedis({ dataDir: here.folder, report, env });
  here.after(() => server.stop());
  const folder = path.join(here.folder, 'redis');
  for (const name of ['password', 'redis.conf', 'server.log']) {
    expect(statSync(path.join(folder, name)).mode & 0o077).toBe(0);
  }
  const password = readFileSync(path.join(folder, 'password'), 'utf8');
  expect(server.url).toContain(password);
  expect(commandOf(server.pid ?? -1)).not.toContain(password);
});

it('is run by npm itself, with no shell between them that would hide that npm was killed', async () => {
  const here = place();
  const heard = path.join(here.folder, 'parent');
  writeFileSync(path.join(here.folder, 'node'), `#!/bin/sh\necho $PPID > '${heard}'\n`, { mode: 0o755 });
  const npm = process.env['npm_execpath'] ?? realpathSync(findOnPath('npm', process.env) ?? '');
  for (const script of ['start', 'test', 'bench']) {
    const env = { ...process.env, PATH: `${here.folder}${path.delimiter}${process.env['PATH']}` };
    const child = spawn(process.execPath, [npm, 'run', script], { env, stdio: 'ignore' });
    const code = await new Promise((resolve) => child.once('exit', resolve));
    expect([script, code, readFileSync(heard, 'utf8').trim()]).toEqual([script, 0, `${child.pid}`]);
  }
});

/** A process of its own that runs Redis in our folder. */
async function redisOfAnother(here: Place): Promise<{ parent: number; redis: ProcessIdentity }> {
  const { child } = await otherProcess(
    here,
    `const { startRedis } = require('./local/redis.js');
     const { silentReport: report } = require('./local/report.js');
     startRedis({ dataDir: ${JSON.stringify(here.folder)}, report }).then((server) => ready(server.url));`,
    env,
  );
  const redis = noted(path.join(here.folder, 'redis'));
  here.after(() => isAlive(redis) && sendSignal(redis.pid, 'SIGKILL'));
  expect(isAlive(redis)).toBe(true);
  return { parent: child.pid ?? -1, redis };
}

function strangerIn(here: Place): ProcessIdentity {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)'], { stdio: 'ignore' });
  here.after(() => child.kill('SIGKILL'));
  const identity = identityOf(child.pid ?? -1);
  if (!identity) throw new Error('the stranger did not start');
  return identity;
}
