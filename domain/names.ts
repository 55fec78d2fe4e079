/** What a tenant's resources are called in each store. Made from the id alone, so that a retry meets its own work. */
import { shortId, type TenantId } from './ids.js';

export const mongoDatabaseName = (tenant: TenantId): string => `t_${shortId(tenant)}`;
/** Role and user live in the tenant's own database. */
export const MONGO_ROLE = 'tenant';
export const mongoUserName = (tenant: TenantId): string => `tenant-${tenant}`;

export const redisUserName = (tenant: TenantId): string => `tenant-${tenant}`;
/** The braces are a cluster hash tag: a tenant's keys live in one slot and may meet in one MULTI. */
export const redisKeyPrefix = (tenant: TenantId): string => `t:{${tenant}}:`;
export const redisKey = (tenant: TenantId, namespace: string, key: string): string =>
  `${redisKeyPrefix(tenant)}${namespace}:${key}`;
/** Outside the tenant's own pattern: the tenant can neither read nor change it. */
export const redisMarkerKey = (tenant: TenantId): string => `tenantry:{${tenant}}:marker`;
