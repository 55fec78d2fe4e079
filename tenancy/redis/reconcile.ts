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

export async function reconcileNamespaces(
  catalogue: Catalogue,
  secrets: SecretBox,
  redis: Redis,
  cell: CellName,
): Promise<Reconciled> {
  const { tenants } = catalogue;
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
  let after: string = BEFORE_ALL;
  for (;;) {
    const page = await tenants.redisUsers(cell, after, PAGE).catch(throwCatalogue);
    const namespaces = page.flatMap(read);
    // All of them: it is the root key that is another one.
    if (page.length > 0 && namespaces.length === 0) throw failure;
    const { claimed, foreign } = await restoreNamespaces(redis, namespaces);
    // One whose undo or purge has begun since may have been made anew behind it.
    const made = namespaces.map(({ tenantId }) => tenantId).filter((id) => !foreign.includes(id));
    const due = new Set(await tenants.haveRedisUsers(made).catch(throwCatalogue));
    for (const id of made.filter((one) => !due.has(one)))
      await tenants
        .unlessDue(id, () => inStore('redis', withdrawNamespace(redis, id, { marker: claimed.includes(id) })))
        .catch(throwCatalogue);
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
