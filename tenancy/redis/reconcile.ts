/**
 * Makes the users and markers of a cell's tenants again from the catalogue, after a restart or a fail-over. Redis keeps ACL
 * users in memory only (ACL SAVE blocks for seconds at scale), and a Redis that lost its data lost the markers too.
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
  /** Tenants whose namespace somebody else has marked. It was left alone, without a user. */
  readonly foreign: number;
  /** Tenants whose password does not open. They have no user, and the others do not wait for them. */
  readonly unreadable: readonly TenantId[];
}

/** Tenants that got a user, and perhaps a marker, and of which it is still to be asked whether they ought to have it. */
export type Unsettled = Map<TenantId, { readonly marker: boolean }>;

/** @param unsettled filled by a run that fails half-way, for the next one: the catalogue may not list those tenants any more */
export async function reconcileNamespaces(
  catalogue: Catalogue,
  secrets: SecretBox,
  redis: Redis,
  cell: CellName,
  unsettled: Unsettled = new Map(),
): Promise<Reconciled> {
  // Taken over, so that two runs at once do not settle the same tenants.
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
  /** Takes away again what was made behind an undo or a purge that has begun meanwhile. */
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
    // None opens, so the root key is another one.
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
