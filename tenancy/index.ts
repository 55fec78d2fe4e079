/** What a product imports as `tenantry`: the data plane. */
export type { CellServers, TenantCredential, TenantCredentials } from './context/cell-servers.js';
export type { DirectoryOptions } from './context/directory.js';
export type { CellStores } from './context/entered-tenant.js';
export type { OnPlatformAccess, PlatformAccess } from './context/platform.js';
export type { SigningKey, SigningKeys, SigningKeySource } from './context/snapshot.js';
export {
  type AccessMode,
  bindTenant,
  currentTenant,
  findCurrentTenant,
  type Principal,
  type Tenant,
  type TenantContext,
  type TenantStores,
} from './context/tenant-context.js';
export {
  openTenantry,
  type RunOptions,
  type SnapshotOptions,
  type Tenantry,
  type TenantryOptions,
} from './data-plane.js';
export { tenantPool } from './postgres/pool-shape.js';
export { productStores, type ProductStoresOptions } from './product-stores.js';
export { doctorPostgres, type Finding, type FindingKind } from './postgres/doctor.js';
export { tenancyProblems } from './express/problem.js';
export {
  claim,
  header,
  host,
  type HostOptions,
  path,
  required,
  type Resolver,
  subdomain,
} from './express/resolvers.js';
export type { TenancyOptions } from './express/tenancy.js';
export type { OnUpgrade, TakeUpgrade } from './express/upgrade.js';
export { type Cache, type CacheOptions, createCache } from './redis/cache.js';
export {
  createRateLimiter,
  type RateLimiter,
  type RateLimitMiddlewareOptions,
  type RateLimitOptions,
  type RateLimitResult,
} from './redis/rate-limit.js';
export { createSessionStore, type SessionStoreOptions } from './redis/session-store.js';
export { type ErrorCode, TenantryError } from '../domain/errors.js';
