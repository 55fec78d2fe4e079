/**
 * The tenant on whose behalf the running code runs, carried by AsyncLocalStorage. There is no default tenant: code that
 * asks without one gets an error.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { EventEmitter } from 'node:events';
import { TenantryError } from '../../domain/errors.js';
import type { CellName, OperationId, TenantId } from '../../domain/ids.js';
import type { ScopedMongo } from '../mongo/scoped.js';
import type { ScopedPostgres } from '../postgres/scoped.js';
import type { ScopedRedis } from '../redis/scoped.js';

/** What a suspension leaves of a tenant's access; the stores enforce it as well. */
export type AccessMode = 'open' | 'read-only';

/** Who acts for the tenant, as the product knows them. */
export interface Principal {
  readonly id: string;
  readonly roles?: readonly string[];
}

export interface TenantContext {
  readonly tenantId: TenantId;
  readonly slug: string;
  readonly cell: CellName;
  readonly plan: string;
  readonly mode: AccessMode;
  /** The fencing token of the tenant's last admitted operation. */
  readonly generation: number;
  readonly principal?: Principal | undefined;
  /** Versions that decisions and encryption in this context go by; 0 where there is none yet. */
  readonly policyVersion: number;
  readonly keyVersion: number;
  /** One for everything that one request sets off. */
  readonly correlationId: string;
  /** The Tenantry operation that this is part of, if any. */
  readonly operationId?: OperationId | undefined;
  /** W3C Trace Context and Baggage, as they came, to be sent on. */
  readonly traceparent?: string | undefined;
  readonly baggage?: string | undefined;
}

/** A tenant's three stores, reached as that tenant and in no other way. */
export interface TenantStores {
  readonly pg: ScopedPostgres;
  readonly mongo: ScopedMongo;
  readonly redis: ScopedRedis;
}

export interface Tenant extends TenantContext, TenantStores {}

/** Undefined: nobody's tenant, as at the start of a process or in `asPlatform`. */
const scopes = new AsyncLocalStorage<Tenant | undefined>();

/** @throws TenantryError NO_TENANT_CONTEXT */
export function currentTenant(): Tenant {
  const tenant = findCurrentTenant();
  if (tenant === undefined) throw new TenantryError('NO_TENANT_CONTEXT');
  return tenant;
}

export function findCurrentTenant(): Tenant | undefined {
  return scopes.getStore();
}

/**
 * Runs `work` as the tenant. Within the same tenant it may be nested; another one's is refused, so that no code can
 * switch tenants half-way.
 * @throws TenantryError NESTED_TENANT_CONTEXT
 */
export function enterTenant<T>(tenant: Tenant, work: () => T): T {
  const outer = findCurrentTenant();
  if (outer !== undefined && outer.tenantId !== tenant.tenantId)
    throw new TenantryError('NESTED_TENANT_CONTEXT');
  return scopes.run(tenant, work);
}

/**
 * For what was made for one tenant and kept: running on behalf of another, neither's data is the right one.
 * @throws TenantryError NESTED_TENANT_CONTEXT
 */
export function refuseOtherTenants(tenantId: TenantId): void {
  const running = findCurrentTenant();
  if (running !== undefined && running.tenantId !== tenantId)
    throw new TenantryError('NESTED_TENANT_CONTEXT');
}

/**
 * Runs `work` as nobody's tenant; from there any tenant may be entered. For `asPlatform`, and for what outlives the request
 * that began it, such as a connection: its events and timers would go on running as the tenant that was there first.
 */
export function outsideTenants<T>(work: () => T): T {
  return scopes.run(undefined, work);
}

/** Binds a callback to the tenant (or to having none) of where it is bound, whoever calls it, from wherever. */
export function bindTenant<A extends unknown[], R>(callback: (...args: A) => R): (...args: A) => R {
  const scope = scopes.getStore();
  return (...args) => scopes.run(scope, () => callback(...args));
}

/**
 * The same for whatever an emitter tells its listeners from now on. In the scope that it is bound in already, which is the
 * rule, it costs next to nothing.
 */
export function bindEmitter(emitter: EventEmitter): void {
  const scope = scopes.getStore();
  const emit = emitter.emit as (...args: unknown[]) => boolean;
  emitter.emit = (...args: unknown[]) => scopes.run(scope, () => emit.apply(emitter, args));
}
