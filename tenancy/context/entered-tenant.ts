/** A tenant as running code holds it: the context, and its stores when they are first asked for. */
import type { CellName, OperationId, TenantId } from '../../domain/ids.js';
import type { ScopedMongo } from '../mongo/scoped.js';
import type { ScopedPostgres } from '../postgres/scoped.js';
import type { ScopedRedis } from '../redis/scoped.js';
import type { TenantEntry } from './lookups.js';
import {
  type AccessMode,
  type Principal,
  refuseOtherTenants,
  type Tenant,
  type TenantContext,
} from './tenant-context.js';

/** The stores of one cell: each gives what is one tenant's. */
export interface CellStores {
  readonly pg: { forTenant(context: TenantContext): ScopedPostgres };
  readonly mongo: { forTenant(context: TenantContext): ScopedMongo };
  readonly redis: { forTenant(context: TenantContext): ScopedRedis };
  close(): Promise<void>;
}

/** What comes with the request or job rather than from the catalogue. */
export interface Circumstances {
  readonly correlationId: string;
  readonly principal?: Principal | undefined;
  readonly operationId?: OperationId | undefined;
  readonly traceparent?: string | undefined;
  readonly baggage?: string | undefined;
}

export class EnteredTenant implements Tenant {
  readonly tenantId: TenantId;
  readonly slug: string;
  readonly cell: CellName;
  readonly plan: string;
  readonly generation: number;
  readonly policyVersion = 0;
  readonly keyVersion = 0;
  readonly principal: Principal | undefined;
  readonly correlationId: string;
  readonly operationId: OperationId | undefined;
  readonly traceparent: string | undefined;
  readonly baggage: string | undefined;
  readonly #stores: CellStores;
  #pg: ScopedPostgres | undefined;
  #mongo: ScopedMongo | undefined;
  #redis: ScopedRedis | undefined;

  constructor(
    entry: TenantEntry,
    readonly mode: AccessMode,
    stores: CellStores,
    come: Circumstances,
  ) {
    this.tenantId = entry.tenantId;
    this.slug = entry.slug;
    this.cell = entry.cell;
    this.plan = entry.plan;
    this.generation = entry.generation;
    this.principal = come.principal;
    this.correlationId = come.correlationId;
    this.operationId = come.operationId;
    this.traceparent = come.traceparent;
    this.baggage = come.baggage;
    this.#stores = stores;
    // Whoever could write to it (a careless `Object.assign`) would choose whose stores are opened and what is signed.
    Object.freeze(this);
  }

  get pg(): ScopedPostgres {
    refuseOtherTenants(this.tenantId);
    return (this.#pg ??= this.#stores.pg.forTenant(this));
  }

  get mongo(): ScopedMongo {
    refuseOtherTenants(this.tenantId);
    return (this.#mongo ??= this.#stores.mongo.forTenant(this));
  }

  get redis(): ScopedRedis {
    refuseOtherTenants(this.tenantId);
    return (this.#redis ??= this.#stores.redis.forTenant(this));
  }
}
Object.freeze(EnteredTenant.prototype);
