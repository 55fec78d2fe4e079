/** What a product's process knows of a cell: where its servers are, with no rights but the product's own. */
import type { CellName, TenantId } from '../../domain/ids.js';

export interface CellServers {
  readonly name: CellName;
  /** As the runtime role. */
  readonly postgresUrl: string;
  /** Without credentials: each tenant logs in as its own user. */
  readonly mongoUrl: string;
  readonly mongoEnforcement: 'server' | 'guard';
  /** Without credentials, as above. */
  readonly redisUrl: string;
}

export interface TenantCredential {
  readonly version: number;
  readonly password: string;
}

export interface TenantCredentials {
  /**
   * The newest password of a tenant's user in a store.
   * @param fresh past the cache, after a login that was refused: it may have been rotated
   */
  get(
    tenantId: TenantId,
    store: 'mongo' | 'redis',
    options?: { readonly fresh?: boolean },
  ): Promise<TenantCredential>;
}
