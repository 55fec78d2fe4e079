// `npm start` that is ended while it still installs or compiles.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { identityOf, isAlive, type ProcessIdentity, sendSignal } from '../../local/identity.js';
import { type Place, places, until } from './support.js';

const place = places();
const root = path.resolve(__dirname, '..', '..');

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends the compiler too', async (signal) => {
  const { child, compiler, folder } = await compiling(place());
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
  await until('the compiler is gone', () => !isAlive(compiler));
  expect(existsSync(path.join(folder, '.tenantry', 'bootstrap.lock'))).toBe(false);
});

it('goes no further when npm was killed meanwhile', async () => {
  const { child, bootstrap, compiler, folder } = await compiling(place());
  child.kill('SIGKILL');
  await until('all of it is gone', () => !isAlive(compiler) && !isAlive(bootstrap));
  expect(existsSync(path.join(folder, 'started'))).toBe(false);
});

/** A clone whose compiler does not end, nor on a signal, as the real one; in it npm runs bootstrap.mjs. */
async function compiling(here: Place): Promise<{
  child: ChildProcess;
  bootstrap: ProcessIdentity;
  compiler: ProcessIdentity;
  folder: string;
}> {
  const { folder } = here;
  const write = (name: string, text: string): void => {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  };
  write('package-lock.json', '{}');
  write('node_modules/.package-lock.json', '{}');
  write(
    'node_modules/.bin/tsc',
    `for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
     require('node:fs').writeFileSync('pids', process.ppid + ' ' + process.pid);
     setInterval(() => undefined, 1000);`,
  );
  write('dist/local/start.js', "require('node:fs').writeFileSync('started', '');");
  mkdirSync(path.join(folder, 'local'));
  copyFileSync(path.join(root, 'local', 'bootstrap.mjs'), path.join(folder, 'local', 'bootstrap.mjs'));
  // In npm's place: it passes signals on, and nothing once it is killed.
  const npm = `
    const child = require('node:child_process').spawn(process.execPath, ['local/bootstrap.mjs', 'start'], { stdio: 'ignore' });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    child.once('exit', () => process.exit());`;
  const child = spawn(process.execPath, ['-e', npm], {
    cwd: folder,
    env: { ...process.env, npm_lifecycle_event: 'start' },
    stdio: 'ignore',
  });
  const pids = path.join(folder, 'pids');
  await until('it compiles', () => existsSync(pids) && readFileSync(pids, 'utf8').includes(' '));
  const [bootstrap, compiler] = readFileSync(pids, 'utf8')
    .split(' ')
    .map((pid) => identityOf(Number(pid)));
  if (bootstrap === undefined || compiler === undefined) throw new Error('it has ended already');
  for (const { pid } of [bootstrap, compiler]) here.after(() => sendSignal(pid, 'SIGKILL'));
  here.after(() => child.kill('SIGKILL'));
  return { child, bootstrap, compiler, folder };
}
