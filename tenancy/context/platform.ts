/** Leaving a tenant for the product's own work across tenants: only with a reason, and never unrecorded. */
import type { Logger } from 'pino';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { findCurrentTenant, outsideTenants } from './tenant-context.js';

export interface PlatformAccess {
  readonly reason: string;
  /** The tenant that was left, if there was one. */
  readonly from: TenantId | undefined;
  readonly correlationId: string | undefined;
  readonly at: Date;
}

/** Records an access before it happens. If it fails, the access is refused. */
export type OnPlatformAccess = (access: PlatformAccess) => void | Promise<void>;

const LONGEST_REASON = 500;

/**
 * @throws TypeError without a reason
 * @throws TenantryError INTERNAL when it could not be recorded, with the cause
 */
export async function asPlatform<T>(
  reason: string,
  work: () => T | Promise<T>,
  record: OnPlatformAccess,
): Promise<T> {
  if (reason.trim() === '' || reason.length > LONGEST_REASON)
    throw new TypeError(`asPlatform needs a reason of 1 to ${LONGEST_REASON} characters`);
  const from = findCurrentTenant();
  try {
    await record({ reason, from: from?.tenantId, correlationId: from?.correlationId, at: new Date() });
  } catch (error) {
    throw new TenantryError('INTERNAL', {}, { cause: error });
  }
  return outsideTenants(async () => work());
}

export const logPlatformAccess =
  (log: Logger): OnPlatformAccess =>
  (access) =>
    log.info({ platformAccess: access }, 'platform access');
