// The entry of every npm script. Plain JavaScript without a dependency, because a fresh clone has none:
// checks Node, installs, compiles, then hands over to the compiled project.

import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { unlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const modules = path.join(root, 'node_modules');
const lockFile = path.join(root, 'package-lock.json');
const [, , task, ...rest] = process.argv;
/** npm, which may be killed at any moment. */
const parent = process.ppid;

/** The installation or compilation that runs just now. */
let underWay;

/** What a person can read and mend; anything else is a bug and shows its stack. */
class Failure extends Error {}

const tasks = {
  // Kept when it is compiled, and told by a channel when this process is gone.
  start: () => handOver([path.join('dist', 'local', 'start.js'), ...rest], { channel: true }),
  test: () => handOver([path.join('node_modules', '.bin', 'jest'), ...rest], { group: true }),
  build: () => handOver([path.join('dist', 'worker', 'bundle.js'), ...rest], {}),
  reset: () => handOver([path.join('dist', 'local', 'reset.js'), ...rest], {}),
  bench: () => handOver([path.join('dist', 'bench', 'main.js'), ...rest], { group: true }),
  'fuzz:isolation': () => handOver([path.join('dist', 'test', 'fuzz', 'main.js'), ...rest], { group: true }),
  mutants: () => handOver([path.join('dist', 'test', 'mutants', 'main.js'), ...rest], { group: true }),
};

process.exitCode = await main();

async function main() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    say(
      `Node ${process.versions.node} is too old: Tenantry needs Node 20.19 or later.\nTo mend it: nvm install 20`,
    );
    return 1;
  }
  if (!Object.hasOwn(tasks, task ?? '')) {
    say(`Usage: node local/bootstrap.mjs ${Object.keys(tasks).join('|')} [arguments]`);
    return 2;
  }
  process.chdir(root);
  if (task === 'reset' && !existsSync('.tenantry')) {
    say('.tenantry/ is not there: nothing to empty.');
    return 0;
  }
  try {
    await whileAsked(() =>
      alone(async () => {
        await install();
        await compile();
      }),
    );
  } catch (error) {
    say(error instanceof Failure ? error.message : error instanceof Error ? error.stack : error);
    return 1;
  }
  return tasks[task]();
}

async function install() {
  const stamp = path.join(modules, '.tenantry-installed');
  const wanted = `${createHash('sha256').update(readFileSync(lockFile)).digest('hex')} ${process.platform}-${process.arch}`;
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  // npm's own note of what it installed: somebody ran npm by hand since the lock file changed.
  const byHand = path.join(modules, '.package-lock.json');
  const current =
    !existsSync(stamp) && existsSync(byHand) && statSync(byHand).mtimeMs >= statSync(lockFile).mtimeMs;
  if (!current) {
    const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
    const options = ['--include=dev', '--include=optional', '--no-audit', '--no-fund'];
    const call = (what, args) => work(what, npm[0], [...npm.slice(1), ...args, ...options]);
    let { code, output } = await call('installing node_modules with npm ci', ['ci']);
    // npm ci refuses a lock file without the packages of other platforms, as it is written where a registry has
    // only some of them. An install takes the same versions from it, and --no-save leaves it as it is.
    if (code !== 0 && output.includes('EUSAGE')) {
      ({ code, output } = await call('npm ci refused the lock file; installing with npm install', [
        'install',
        '--no-save',
      ]));
    }
    if (code !== 0)
      throw new Failure(`${output}\nnode_modules could not be installed (${code}). To mend it: npm ci`);
  }
  writeFileSync(stamp, wanted);
}

async function compile() {
  const tsc = path.join(modules, '.bin', 'tsc');
  const { code, output } = await work('compiling', process.execPath, [
    tsc,
    '-p',
    'tsconfig.json',
    '--pretty',
    'false',
  ]);
  // Emptying the data folder must also be possible while the sources are being worked on.
  if (code !== 0 && task !== 'reset')
    throw new Failure(`${output}\nThe sources do not compile. To mend it: npm run typecheck`);
  copyAssets('.');
}

/** What the compiled code reads beside itself and tsc leaves where it is: SQL, JSON, the console's files. */
function copyAssets(folder) {
  const skipped = new Set(['node_modules', 'dist', 'docs', 'test', 'coverage']);
  for (const entry of readdirSync(path.join(root, folder), { withFileTypes: true })) {
    const name = path.join(folder, entry.name);
    if (entry.name.startsWith('.') || skipped.has(name)) continue;
    if (entry.isDirectory()) copyAssets(name);
    else if (folder !== '.' && entry.isFile() && !/\.(ts|md|log)$/.test(name)) {
      const copy = path.join(root, 'dist', name);
      mkdirSync(path.dirname(copy), { recursive: true });
      copyFileSync(path.join(root, name), copy);
    }
  }
}

/** Runs the task itself in a process group of its own, so that Ctrl-C reaches it once: from here. */
function handOver(args, { channel = false, group = false }) {
  const child = spawn(process.execPath, args, {
    detached: true,
    stdio: ['inherit', 'inherit', 'inherit', ...(channel ? ['ipc'] : [])],
  });
  let forwarded = false;
  const forward = (signal) => {
    // npm passes on what the terminal has sent already, so each comes twice.
    if (forwarded || child.pid === undefined) return;
    forwarded = true;
    // Jest has workers, which it would not tell.
    process.kill(group ? -child.pid : child.pid, signal);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward);
  onParentGone(() => forward('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === 'SIGINT' ? 2 : signal === 'SIGKILL' ? 9 : 15)),
    );
  });
}

/** A signal to npm alone ends npm and the shell between it and this process, which passes nothing on. */
function onParentGone(end) {
  const watch = setInterval(() => process.ppid === parent || end(), 250).unref();
  if (!process.env.npm_lifecycle_event) clearInterval(watch);
  return watch;
}

/** Ends what is under way with this process: the compiler goes on after a signal, and would write behind the next one. */
async function whileAsked(steps) {
  const end = (signal) => {
    if (underWay?.pid !== undefined) process.kill(-underWay.pid, 'SIGKILL');
    process.exit(128 + constants.signals[signal]);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, end);
  const watch = onParentGone(() => end('SIGTERM'));
  try {
    await steps();
  } finally {
    clearInterval(watch);
    for (const signal of signals) process.off(signal, end);
  }
}

/** A step with a line when it begins to take long, one every 10 s, and one when it ends. */
async function work(what, command, args) {
  const begun = Date.now();
  const elapsed = () => `${((Date.now() - begun) / 1000).toFixed(1)} s`;
  let announced = false;
  const announce = setTimeout(() => {
    announced = true;
    say(`... ${what}`);
  }, 300);
  const tick = setInterval(() => say(`    ${what}: ${elapsed()}`), 10_000);
  // A process group of its own, so that it ends with all that it has started.
  const child = spawn(command, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  underWay = child;
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  try {
    const code = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit, signal) => resolve(exit ?? signal));
    });
    if (announced) say(`${code === 0 ? 'ok ' : 'no '} ${what} (${elapsed()})`);
    // npm's warnings are many, and its reason comes after them.
    const told = output.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('npm warn'));
    return { code, output: told.slice(0, 20).join('\n') };
  } finally {
    underWay = undefined;
    clearTimeout(announce);
    clearInterval(tick);
  }
}

/** One at a time in this clone: two installations at once would remove each other's files. */
async function alone(steps) {
  const lock = path.join(root, '.tenantry', 'bootstrap.lock');
  mkdirSync(path.dirname(lock), { recursive: true });
  // The same lock as local/lock.ts, which is not compiled yet: a link to a file with who holds it.
  const draft = `${lock}.${process.pid}`;
  writeFileSync(draft, identityOf(process.pid));
  try {
    for (let told = false; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      try {
        linkSync(draft, lock);
        break;
      } catch (error) {
        if (error.code !== 'EEXIST') throw error;
      }
      const holder = existsSync(lock) ? readFileSync(lock, 'utf8') : '';
      const pid = Number.parseInt(holder, 10);
      if (holder !== '' && identityOf(pid) !== holder) rmSync(lock, { force: true });
      else if (holder !== '' && !told) say(`... waiting for process ${pid}, which prepares this clone`);
      told ||= holder !== '';
    }
  } finally {
    unlinkSync(draft);
  }
  const leave = () => rmSync(lock, { force: true });
  process.once('exit', leave);
  try {
    await steps();
  } finally {
    leave();
    process.off('exit', leave);
  }
}

/** The pid and when its process began, since a pid alone is handed out again; '' when there is none. */
function identityOf(pid) {
  try {
    if (process.platform === 'linux') {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
    }
    return `${pid} ${execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim()}`;
  } catch {
    return ''; // no such process
  }
}

function say(line) {
  process.stdout.write(`${line}\n`);
}
