// The system's own package of Redis: installed by us in a container or in CI, else the command to type.

import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cacheRoot } from './cache.js';
import { run } from './command.js';
import { findOnPath, type Way } from './find.js';
import { withLock } from './lock.js';
import { type Report, reported } from './report.js';

interface Installer {
  readonly install: readonly string[];
  /** Refreshes the list of packages, which an image without any list needs first. */
  readonly refresh?: readonly string[];
  readonly asRoot: boolean;
}

// A mirror that does not begin to answer within 5 s is not waited for.
const apt = ['-o', 'Acquire::http::Timeout=5', '-o', 'Acquire::https::Timeout=5', '-o', 'Acquire::Retries=1'];
const installers = {
  'apt-get': {
    install: [...apt, '-o', 'DPkg::Lock::Timeout=120', 'install', '-y', '--no-install-recommends'],
    refresh: [...apt, 'update'],
    asRoot: true,
  },
  dnf: { install: ['install', '-y'], asRoot: true },
  yum: { install: ['install', '-y'], asRoot: true },
  apk: { install: ['add', '--no-cache'], asRoot: true },
  zypper: { install: ['--non-interactive', 'install'], asRoot: true },
  pacman: { install: ['-S', '--noconfirm'], asRoot: true },
  brew: { install: ['install'], asRoot: false },
} satisfies Record<string, Installer>;
type InstallerName = keyof typeof installers;

/** What it is called by each package manager. */
export type Packages = Readonly<Record<InstallerName, string>>;

/** The one command that brings the package to this machine. */
export function installCommand(env: NodeJS.ProcessEnv, packages: Packages, what: string): string {
  const name = installerOf(env);
  if (!name) return `install ${what} and put it on the PATH`;
  const { asRoot, install } = installers[name];
  const sudo = asRoot && process.getuid?.() !== 0 ? ['sudo'] : [];
  // A person needs neither the time-outs nor the look at the lock.
  const words = name === 'apt-get' ? ['install', '-y'] : install;
  return [...sudo, name, ...words, packages[name]].join(' ');
}

/** Installs it, then looks the way `again`. Only where nobody has to be asked: as root in a container or in CI. */
export function systemPackage(o: {
  readonly name: string;
  readonly packages: Packages;
  readonly again: Way;
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
  readonly signal?: AbortSignal | undefined;
}): Way {
  return {
    looked: "as the system's package",
    look: async () => {
      const installer = installerOf(o.env);
      if (!installer) return `no package manager known here (${Object.keys(installers).join(', ')})`;
      if (process.getuid?.() !== 0) return 'not installed without asking: this is not root';
      if (!mayInstall(o.env)) return 'not installed without asking: this is neither a container nor CI';
      const packages = o.packages[installer];
      await withLock(path.join(cacheRoot(o.env), `install-${o.name}.lock`), o, async () => {
        // Another start may have installed it while this one waited.
        if (typeof (await o.again.look()) !== 'string') return;
        const what = `${o.name}: installing ${packages} with ${installer}`;
        await reported(o.report, what, () =>
          withoutServices(() => install(installer, packages.split(' '), o)),
        );
      });
      const found = await o.again.look();
      return typeof found === 'string' ? `installed, but ${found}` : { ...found, source: 'installed' };
    },
  };
}

async function install(
  name: InstallerName,
  packages: readonly string[],
  o: { readonly env: NodeJS.ProcessEnv; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const installer: Installer = installers[name];
  const env = { ...o.env, DEBIAN_FRONTEND: 'noninteractive' };
  const call = (args: readonly string[]) =>
    run(findOnPath(name, o.env) ?? name, args, { env, signal: o.signal, withinMs: 300_000 });
  try {
    await call([...installer.install, ...packages]);
  } catch (error) {
    if (!installer.refresh) throw error;
    await call(installer.refresh);
    await call([...installer.install, ...packages]);
  }
}

const policy = '/usr/sbin/policy-rc.d';
const policyText =
  '#!/bin/sh\n# Made by Tenantry while it installs Redis, so that no service starts; safe to delete.\nexit 101\n';

/**
 * Debian starts a package's service as it installs it, on the standard port. Its own switch against that is
 * policy-rc.d (invoke-rc.d(8)): there for the time of the installation, and never in place of another one.
 */
async function withoutServices(work: () => Promise<void>): Promise<void> {
  const debian = existsSync(path.dirname(policy)) && existsSync('/etc/debian_version');
  // A start that was killed in here has left its own.
  if (debian && existsSync(policy) && readFileSync(policy, 'utf8') === policyText) rmSync(policy);
  if (!debian || existsSync(policy)) return work();
  writeFileSync(policy, policyText, { flag: 'wx' });
  try {
    chmodSync(policy, 0o755);
    await work();
  } finally {
    rmSync(policy, { force: true });
  }
}

function installerOf(env: NodeJS.ProcessEnv): InstallerName | undefined {
  return (Object.keys(installers) as InstallerName[]).find((name) => findOnPath(name, env) !== undefined);
}

/** CI, or a container: nobody's own machine, and nobody there to type a command. */
export function mayInstall(env: NodeJS.ProcessEnv): boolean {
  if (['CI', 'container', 'IS_SANDBOX'].some((name) => env[name] && env[name] !== 'false')) return true;
  if (existsSync('/.dockerenv') || existsSync('/run/.containerenv')) return true;
  const cgroup = '/proc/1/cgroup';
  return existsSync(cgroup) && /docker|kubepods|containerd|libpod|lxc/.test(readFileSync(cgroup, 'utf8'));
}
