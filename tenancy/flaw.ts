/** What a store's own catalogue says is wrong with a tenant's things. */
import { TenantryError } from '../domain/errors.js';
import type { StoreName } from '../domain/operation.js';
import { storeTitle } from './store-error.js';

export interface Flaw {
  readonly detail: string;
  /** Somebody may do more than is declared: a way to others, whether or not anybody has taken it. */
  readonly breach: boolean;
}

export const flawError = (store: StoreName, { detail, breach }: Flaw): TenantryError =>
  breach
    ? new TenantryError('ISOLATION_BREACH', { store: storeTitle(store), probe: detail })
    : new TenantryError('VERIFICATION_FAILED', { store: storeTitle(store), detail });

const isBreach = (error: unknown): boolean =>
  error instanceof TenantryError && error.code === 'ISOLATION_BREACH';

/** Of several failures side by side the one to tell: an outage beside a breach must not hide it. */
export const breachFirst = (failures: readonly unknown[]): unknown => failures.find(isBreach) ?? failures[0];
