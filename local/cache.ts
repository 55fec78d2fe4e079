// Binaries that were downloaded or built are kept outside the clone, by name and version, and made once.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { withLock } from './lock.js';
import type { Report } from './report.js';

/** `$TENANTRY_CACHE_DIR`, else `$XDG_CACHE_HOME`, else `~/.cache`; and `tenantry` in it. */
export function cacheRoot(env: NodeJS.ProcessEnv): string {
  const base =
    env['TENANTRY_CACHE_DIR'] || env['XDG_CACHE_HOME'] || path.join(env['HOME'] || homedir(), '.cache');
  return path.join(path.resolve(base), 'tenantry');
}

export interface Cached {
  readonly name: string;
  readonly version: string;
  /** The file in the entry that is wanted, relative to it. */
  readonly file: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The path of the wanted file if it has been made, on this kind of machine. */
export function inCache(o: Cached): string | undefined {
  const file = path.join(entryOf(o), o.file);
  return existsSync(file) ? file : undefined;
}

/**
 * The path of the wanted file; made by `make(folder)` when it is not there. Two processes at once make it once: the
 * second waits. What a killed one left behind is cleared, and nothing half-made is ever taken for whole.
 */
export async function cached(
  o: Cached & {
    readonly report: Report;
    readonly signal?: AbortSignal | undefined;
    readonly make: (folder: string) => Promise<void>;
  },
): Promise<string> {
  const entry = entryOf(o);
  const file = path.join(entry, o.file);
  if (existsSync(file)) return file;
  mkdirSync(path.dirname(entry), { recursive: true });
  await withLock(`${entry}.lock`, o, async () => {
    if (existsSync(file)) return;
    const making = `${path.basename(entry)}.making-`;
    for (const name of readdirSync(path.dirname(entry))) {
      // Under the lock, so the process that made this one is gone.
      if (name.startsWith(making))
        rmSync(path.join(path.dirname(entry), name), { recursive: true, force: true });
    }
    const draft = mkdtempSync(path.join(path.dirname(entry), making));
    try {
      await o.make(draft);
      if (!existsSync(path.join(draft, o.file))) throw new Error(`${o.name} was made, but has no ${o.file}.`);
      rmSync(entry, { recursive: true, force: true });
      renameSync(draft, entry);
    } finally {
      rmSync(draft, { recursive: true, force: true });
    }
  });
  return file;
}

function entryOf(o: Cached): string {
  return path.join(cacheRoot(o.env), o.name, `${o.version}-${process.platform}-${process.arch}`);
}
