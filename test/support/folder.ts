/** Where the servers of tests keep their data. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { livingHolder, tryLock } from '../../local/lock.js';

/** Linux' file system in memory, for everybody. In a container it is often of 64 MB. */
const MEMORY = '/dev/shm';
/** Of all servers of a whole run at their peak about a quarter is needed. */
const ROOM = 4 * 1024 ** 3;
const LOCK = 'user.lock';

/**
 * In memory where there is room, unless TMPDIR says where: each test makes and drops databases of some 300 files, and the
 * file system's work for them was most of PostgreSQL's processor time. Files there outlive their process, however it ends,
 * as they do on a disk; what a power cut leaves is nothing that a test could see on either.
 */
export async function serverFolder(purpose: string): Promise<string> {
  const parent = process.env['TMPDIR'] === undefined && (await hasRoom()) ? MEMORY : tmpdir();
  const folder = await mkdtemp(join(parent, `tenantry-${purpose}-`));
  tryLock(join(folder, LOCK));
  return folder;
}

/** Memory is not given back by itself: removes what killed runs left in it. */
export async function removeAbandonedFolders(): Promise<void> {
  if (!existsSync(MEMORY)) return;
  const names = (await readdir(MEMORY)).filter((name) => name.startsWith('tenantry-'));
  for (const name of names) {
    const lock = join(MEMORY, name, LOCK);
    // Without the lock it may be one that is being made.
    if (existsSync(lock) && livingHolder(lock) === undefined)
      await rm(join(MEMORY, name), { recursive: true, force: true });
  }
}

async function hasRoom(): Promise<boolean> {
  if (!existsSync(MEMORY)) return false;
  const { bavail, bsize } = await statfs(MEMORY);
  return Math.min(bavail * bsize, freemem()) >= ROOM;
}
