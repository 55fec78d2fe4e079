/** What a tenant's state leaves of its access: one place for the middleware, jobs, activities and `runWithTenant`. */
import { TenantryError } from '../../domain/errors.js';
import type { TenantEntry } from './lookups.js';
import type { AccessMode } from './tenant-context.js';

/**
 * @throws TenantryError TENANT_SUSPENDED (params: mode), TENANT_INACTIVE, TENANT_NOT_READY, TENANT_GONE or
 *   TENANT_NOT_FOUND
 */
export function accessOf(entry: TenantEntry | null | undefined): AccessMode {
  if (entry === null || entry === undefined) throw new TenantryError('TENANT_NOT_FOUND');
  switch (entry.state) {
    case 'active':
      return 'open';
    case 'suspended':
      // `open` is no mode of a suspension: what is not plainly read-only is blocked.
      if (entry.mode === 'read-only') return 'read-only';
      throw new TenantryError('TENANT_SUSPENDED', { mode: 'blocked' });
    case 'deprovisioning':
      throw new TenantryError('TENANT_SUSPENDED', { mode: 'blocked' });
    case 'inactive':
      throw new TenantryError('TENANT_INACTIVE');
    case 'pending':
    case 'provisioning':
    case 'failed':
      throw new TenantryError('TENANT_NOT_READY');
    case 'purging':
    case 'deleted':
      throw new TenantryError('TENANT_GONE');
    default:
      // A newer catalogue may have states that this process does not know; none of them is open by itself.
      throw new TenantryError('TENANT_NOT_READY');
  }
}
