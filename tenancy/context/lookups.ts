/**
 * Asks the catalogue about many tenants at once. What is asked while statements are under way goes into the next one, so a
 * flood of unknown names costs a few statements and never one for each.
 */
import type { Pool } from 'pg';
import { catalogueError } from '../../catalogue/pool.js';
import { TenantryError } from '../../domain/errors.js';
import type { CellName, TenantId } from '../../domain/ids.js';
import type { TenantState } from '../../domain/tenant-state.js';

export interface TenantEntry {
  readonly tenantId: TenantId;
  readonly slug: string;
  readonly cell: CellName;
  readonly plan: string;
  readonly state: TenantState;
  /** Of a suspension. */
  readonly mode: 'open' | 'read-only' | 'blocked';
  readonly generation: number;
}

/**
 * A tenant by its id, by its slug, or by text from outside that looks like an id (`said:...`). If such text is also the
 * slug of another tenant, it names nobody, as it may mean either. The API refuses such slugs, but once did not.
 */
export type TenantKey = `id:${string}` | `slug:${string}` | `said:${string}`;

export interface Answer {
  readonly entry: TenantEntry | undefined;
  /** When the question was sent, by the monotonic clock. The answer may be that old. */
  readonly askedAt: number;
}

export interface Lookups {
  /** @throws TenantryError CATALOGUE_UNAVAILABLE when it is away, or when too many wait already */
  ask(key: TenantKey): Promise<Answer>;
}

/** Keys in one statement, statements at once, and questions that may wait in all. */
const TOGETHER = 256;
const AT_ONCE = 2;
const WAITING = 20_000;

interface Waiting {
  readonly promise: Promise<Answer>;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

export function createLookups(pool: Pool): Lookups {
  const waiting = new Map<TenantKey, Waiting>();
  let running = 0;

  const send = async (): Promise<void> => {
    running++;
    try {
      while (waiting.size > 0) {
        const batch = [...waiting].slice(0, TOGETHER);
        for (const [key] of batch) waiting.delete(key);
        const askedAt = performance.now();
        try {
          const found = await query(
            pool,
            batch.map(([key]) => key),
          );
          for (const [key, { resolve }] of batch) resolve({ entry: found.get(key), askedAt });
        } catch (error) {
          for (const [, { reject }] of batch) reject(catalogueError(error));
        }
      }
    } finally {
      running--;
    }
  };

  return {
    ask(key) {
      const asked = waiting.get(key);
      if (asked !== undefined) return asked.promise;
      if (waiting.size >= WAITING) return Promise.reject(new TenantryError('CATALOGUE_UNAVAILABLE'));
      let settle: Pick<Waiting, 'resolve' | 'reject'> | undefined;
      const promise = new Promise<Answer>((resolve, reject) => {
        settle = { resolve, reject };
      });
      if (settle !== undefined) waiting.set(key, { promise, ...settle });
      // What is asked in the same turn of the event loop goes together.
      if (running < AT_ONCE) queueMicrotask(() => running < AT_ONCE && waiting.size > 0 && void send());
      return promise;
    },
  };
}

async function query(pool: Pool, keys: readonly TenantKey[]): Promise<Map<TenantKey, TenantEntry>> {
  const named = (kind: string): string[] =>
    keys.flatMap((key) => (key.startsWith(kind) ? [key.slice(kind.length)] : []));
  const said = named('said:');
  const { rows } = await pool.query<Omit<TenantEntry, 'generation'> & { readonly generation: string }>({
    name: 'tenantry-lookup',
    // The cells' canaries are nobody's tenants.
    text: `SELECT id::text AS "tenantId", slug, cell, plan, state, mode, generation::text FROM tenant
            WHERE (id = ANY ($1::uuid[]) OR slug = ANY ($2::text[])) AND NOT system`,
    values: [
      [...named('id:'), ...said],
      [...named('slug:'), ...said],
    ],
  });
  const found = new Map<TenantKey, TenantEntry>();
  for (const row of rows) {
    const entry = { ...row, generation: Number(row.generation) };
    found.set(`id:${entry.tenantId}`, entry).set(`slug:${entry.slug}`, entry);
  }
  for (const text of said) {
    const entry = found.get(`id:${text}`);
    if (entry !== undefined && !found.has(`slug:${text}`)) found.set(`said:${text}`, entry);
  }
  return found;
}
