/**
 * The keys that sign which tenant a statement is for, where the database verifies it (`postgres.hardened`). Each cell has
 * its own, derived from the root key by HKDF-SHA-256 (RFC 5869), so that whoever has the root key needs nobody to hand
 * them out, and who has a cell's key has no other cell's.
 */
import { hkdfSync } from 'node:crypto';
import type { CellName } from '../domain/ids.js';

export interface ContextKey {
  /** Two ids may be valid at a time, while a key is being replaced. */
  readonly id: number;
  /** 32 bytes; at most 64, the block of SHA-256. */
  readonly secret: Buffer;
}

export const FIRST_CONTEXT_KEY = 1;

/** @param rootKey 32 bytes */
export function deriveContextKey(rootKey: Buffer, cell: CellName, id: number): ContextKey {
  if (rootKey.length !== 32) throw new TypeError('the root key must be 32 bytes');
  if (!Number.isSafeInteger(id) || id < 1) throw new RangeError('the id of a context key is 1 or more');
  const info = `tenantry/context-key/1/${cell}/${id}`;
  return { id, secret: Buffer.from(hkdfSync('sha256', rootKey, Buffer.alloc(0), info, 32)) };
}

/** The key to sign with now. */
export function contextKeySource(
  rootKey: Buffer,
  cell: CellName,
  currentId: () => number = () => FIRST_CONTEXT_KEY,
): () => ContextKey {
  let known: ContextKey | undefined;
  return () => {
    const id = currentId();
    if (known?.id !== id) known = deriveContextKey(rootKey, cell, id);
    return known;
  };
}
