// Passwords are made once, and kept in a file that only their owner can read.

import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

/** The secret in `file`, which is made when it is not there. Hexadecimal: safe in a URL and in a key file. */
export function secretIn(file: string): string {
  if (!existsSync(file)) writePrivate(file, randomBytes(24).toString('hex'));
  return readFileSync(file, 'utf8').trim();
}

/** Whole or not at all, and never readable by others, not even while it is written. */
export function writePrivate(file: string, content: string): void {
  const draft = `${file}.${process.pid}.new`;
  writeFileSync(draft, content, { mode: 0o600 });
  renameSync(draft, file);
}
