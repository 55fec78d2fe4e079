// Who a process is. A pid alone is no identity: the kernel hands it out again, so it is always kept and
// compared together with the time at which the process began.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque; equal for the same process only, also across reboots. */
  readonly started: string;
}

/** undefined when there is no such process, or only its zombie, which a lazy init may leave for ever. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const found = process.platform === 'linux' ? linuxStat(pid) : psStat(pid);
  return found && !found.zombie ? { pid, started: found.started } : undefined;
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.started === identity.started;
}

/** The command line, to tell whose server a pid is when nothing else does. */
export function commandOf(pid: number): string | undefined {
  if (process.platform === 'linux') {
    return readIfThere(`/proc/${pid}/cmdline`)?.replaceAll('\0', ' ').trim() || undefined;
  }
  return ps(['-o', 'command=', '-p', String(pid)]) || undefined;
}

/** The pid and all its descendants, parents first. PostgreSQL's are each in a session of their own. */
export function treeOf(root: number): number[] {
  const all = parents();
  const tree = [root];
  // The list grows while it is walked: that is the descent.
  for (const pid of tree) tree.push(...all.filter(([, parent]) => parent === pid).map(([child]) => child));
  return tree;
}

/** false when the process is gone already. */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

interface Stat {
  readonly started: string;
  readonly parent: number;
  readonly zombie: boolean;
}

function linuxStat(pid: number): Stat | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // proc_pid_stat(5): the second field is the name in brackets and may hold anything, so count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = '', parent = '0'] = fields;
  return {
    started: `${bootId()}/${fields[19]}`,
    parent: Number(parent),
    zombie: state === 'Z' || state === 'X',
  };
}

function psStat(pid: number): Stat | undefined {
  const line = ps(['-o', 'ppid=,stat=,lstart=', '-p', String(pid)]);
  const [, parent, state = '', started = ''] = /^\s*(\d+)\s+(\S+)\s+(.+?)\s*$/.exec(line) ?? [];
  if (parent === undefined) return undefined;
  return { started, parent: Number(parent), zombie: state.startsWith('Z') };
}

function parents(): [pid: number, parent: number][] {
  if (process.platform === 'linux') {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        const stat = linuxStat(Number(name));
        return stat ? [[Number(name), stat.parent] as [number, number]] : [];
      });
  }
  return ps(['-axo', 'pid=,ppid='])
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number]);
}

/** Start times on Linux count from the boot, so they only mean something together with it. */
function bootId(): string {
  return (boot ??= readIfThere('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown');
}
let boot: string | undefined;

function ps(args: string[]): string {
  try {
    return execFileSync('ps', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch (error) {
    // ps leaves with 1 when no process matches.
    if ((error as { status?: number | null }).status === 1) return '';
    throw error;
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ESRCH: the process went away between the opening and the reading.
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
