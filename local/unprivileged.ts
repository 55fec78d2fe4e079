// PostgreSQL refuses to run as root. Where we are root, it runs as a user without rights, which then has to get at
// binaries and data that may lie beneath a directory of mode 700, as /root is and as mktemp -d makes them.

import { chmodSync, chownSync, existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { run } from './command.js';
import { findOnPath } from './find.js';
import { writePrivate } from './secret.js';
import { reasonOf } from './reason.js';
import type { Launch } from './supervise.js';

export interface Unprivileged {
  /** undefined where we are not root: then the server runs as we do. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  launch(binary: string, args: readonly string[]): Launch;
}

interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** The way to start `binary` so that it can use `folder`. Throws with the remedy when there is none. */
export async function unprivileged(o: {
  /** The server's folder; `data` in it, where it exists, says by its owner which user to be. */
  readonly folder: string;
  readonly binary: string;
  readonly env: NodeJS.ProcessEnv;
}): Promise<Unprivileged> {
  const data = path.join(o.folder, 'data');
  const owner = existsSync(data) ? statSync(data) : undefined;
  const us = process.getuid?.();
  if (us !== 0) {
    if (owner && us !== undefined && owner.uid !== us) {
      throw new Error(
        `${data} belongs to user ${owner.uid}, and this is user ${us}: PostgreSQL would refuse it.\n` +
          `To mend it: sudo npm run reset`,
      );
    }
    return { uid: undefined, gid: undefined, launch: (command, args) => ({ command, args, env: o.env }) };
  }
  const user =
    owner && owner.uid !== 0 ? { name: `#${owner.uid}`, uid: owner.uid, gid: owner.gid } : await pickUser();
  // Traversable whatever the umask was; what is private in it has a mode of its own.
  chmodSync(o.folder, 0o711);

  const plain: Unprivileged = {
    ...user,
    launch: (command, args) => ({ command, args, env: o.env, uid: user.uid, gid: user.gid }),
  };
  const first = await reaches(plain, o);
  if (first === undefined) return plain;
  const setpriv = findOnPath('setpriv', o.env);
  const passing: Unprivileged = { ...user, launch: withPassage(setpriv ?? 'setpriv', user, o.env) };
  const second = setpriv ? await reaches(passing, o) : 'setpriv (util-linux) is not on the PATH';
  if (second === undefined) return passing;

  const closed = [...new Set([...closedAbove(o.binary), ...closedAbove(o.folder)])];
  throw new Error(
    `PostgreSQL must not run as root, and user ${user.name} can use neither ${o.binary} nor ${o.folder} as it should: ` +
      `${first}\nWith the right to pass closed directories: ${second}\n` +
      `To mend it: ${closed.length > 0 ? `chmod o+x ${closed.join(' ')}` : 'run this as a user other than root'}`,
  );
}

/** A private file for the server's user alone. */
export function secretFileFor(user: Unprivileged, file: string, content: string): void {
  writePrivate(file, content);
  if (user.uid !== undefined) chownSync(file, user.uid, user.gid ?? user.uid);
}

/**
 * The user's own rights plus one, to pass closed directories (CAP_DAC_OVERRIDE). no_setuid_fixup is for access(2),
 * which otherwise asks as if that right were not there, and by which initdb looks for postgres beside itself.
 */
function withPassage(setpriv: string, user: User, env: NodeJS.ProcessEnv): Unprivileged['launch'] {
  return (command, args) => ({
    command: setpriv,
    args: [
      `--reuid=${user.uid}`,
      `--regid=${user.gid}`,
      '--clear-groups',
      '--securebits=+no_setuid_fixup',
      '--inh-caps=+dac_override',
      '--ambient-caps=+dac_override',
      '--',
      command,
      ...args,
    ],
    env,
  });
}

/** undefined when it does, else the reason. */
async function reaches(
  user: Unprivileged,
  o: { readonly folder: string; readonly binary: string },
): Promise<string | undefined> {
  const script = 'cd "$1" && "$2" --version';
  const { command, args, ...rest } = user.launch('/bin/sh', ['-c', script, 'sh', o.folder, o.binary]);
  try {
    await run(command, args, { ...rest, cwd: '/', withinMs: 20_000 });
    return undefined;
  } catch (error) {
    return reasonOf(error).split('\n').at(-1);
  }
}

async function pickUser(): Promise<User> {
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = async (flag: string) => Number((await run('id', [flag, name])).stdout);
      return { name, uid: await id('-u'), gid: await id('-g') };
    } catch (error) {
      if (name === 'nobody') {
        throw new Error(
          `PostgreSQL must not run as root, and there is no user postgres or nobody to run it as.`,
          {
            cause: error,
          },
        );
      }
    }
  }
  throw new Error('unreachable');
}

function closedAbove(file: string): string[] {
  const closed: string[] = [];
  for (let folder = path.dirname(file); folder !== path.dirname(folder); folder = path.dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) closed.push(folder);
  }
  return closed;
}
