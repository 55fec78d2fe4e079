/**
 * Makes the namespaces of a cell's tenants again. Redis keeps its ACL users in memory only (ACL SAVE blocks for seconds
 * at scale), and one that lost its data lost the markers too: after a restart or a fail-over the catalogue, where the
 * truth is, has to say both anew.
 */
import type { Redis } from 'ioredis';
import type { Catalogue } from '../../catalogue/index.js';
import type { StoredCredential } from '../../catalogue/tenants.js';
import { catalogueError } from '../../catalogue/pool.js';
import type { CellName, TenantId } from '../../domain/ids.js';
import type { SecretBox } from '../../keys/sealed-secret.js';
import { inStore } from '../store-error.js';
import { type Namespace, restoreNamespaces, withdrawNamespace } from './namespace.js';

const PAGE = 1_000;
const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

export interface Reconciled {
  /** ACL users that were made. */
  readonly users: number;
  /** Markers that had been lost and were set again. */
  readonly markers: number;
  /** Tenants whose namespace is marked by somebody else: it was left alone, and no user was made for it. */
  readonly foreign: number;
  /** Tenants whose password does not open: no user was made for them, and the others are not to wait for it. */
  readonly unreadable: readonly TenantId[];
}

/** Whose namespaces were made, and were not looked at again since: whether the marker may have been set too. */
export type Unsettled = Map<TenantId, { readonly marker: boolean }>;

/** @param unsettled what a run that failed half-way leaves to the next one, for which those tenants may be none any more */
export async function reconcileNamespaces(
  catalogue: Catalogue,
  secrets: SecretBox,
  redis: Redis,
  cell: CellName,
  unsettled: Unsettled = new Map(),
): Promise<Reconciled> {
  // Taken over: of two runs at once each looks at what it has made itself.
  const made: Unsettled = new Map(unsettled);
  unsettled.clear();
  try {
    return await reconcile(catalogue, secrets, redis, cell, made);
  } catch (error) {
    for (const [id, { marker }] of made)
      unsettled.set(id, { marker: marker || unsettled.get(id)?.marker === true });
    throw error;
  }
}

async function reconcile(
  { tenants }: Catalogue,
  secrets: SecretBox,
  redis: Redis,
  cell: CellName,
  made: Unsettled,
): Promise<Reconciled> {
  const done = { users: 0, markers: 0, foreign: 0, unreadable: [] as TenantId[] };
  let failure: unknown;
  const read = ({ tenantId, version, sealed }: StoredCredential): Namespace[] => {
    try {
      return [{ tenantId, password: secrets.open(sealed, { tenantId, store: 'redis', version }) }];
    } catch (error) {
      done.unreadable.push(tenantId);
      failure = error;
      return [];
    }
  };
  /** One whose undo or purge has begun since may have been made anew behind it. */
  const settle = async (): Promise<ReadonlySet<TenantId>> => {
    const due = new Set(await tenants.haveRedisUsers([...made.keys()]).catch(throwCatalogue));
    for (const [id, how] of made) {
      if (!due.has(id))
        await tenants
          .unlessDue(id, () => inStore('redis', withdrawNamespace(redis, id, how)))
          .catch(throwCatalogue);
      made.delete(id);
    }
    return due;
  };
  if (made.size > 0) await settle();
  let after: string = BEFORE_ALL;
  for (;;) {
    const page = await tenants.redisUsers(cell, after, PAGE).catch(throwCatalogue);
    const namespaces = page.flatMap(read);
    // All of them: it is the root key that is another one.
    if (page.length > 0 && namespaces.length === 0) throw failure;
    for (const { tenantId } of namespaces) made.set(tenantId, { marker: false });
    const { claimed, foreign } = await restoreNamespaces(redis, namespaces, (claiming) => {
      for (const id of claiming) made.set(id, { marker: true });
    });
    for (const id of foreign) made.delete(id);
    const due = await settle();
    done.users += due.size;
    done.markers += claimed.filter((id) => due.has(id)).length;
    done.foreign += foreign.length;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return done;
    after = last.tenantId;
  }
}

function throwCatalogue(error: unknown): never {
  throw catalogueError(error);
}
