/**
 * The middleware by which a request enters its tenant. If memory knows the tenant, which is the rule, nothing here is
 * asynchronous: a promise for each request would cost more than all the rest.
 */
import type { Request, RequestHandler, Response } from 'express';
import { TenantryError } from '../../domain/errors.js';
import { accessOf } from '../context/access.js';
import type { Directory, TenantEntry, TenantKey } from '../context/directory.js';
import type { Circumstances } from '../context/entered-tenant.js';
import {
  bindEmitter,
  bindTenant,
  enterTenant,
  type Principal,
  type Tenant,
} from '../context/tenant-context.js';
import { sendProblem } from './problem.js';
import type { Resolver } from './resolvers.js';
import { type Trace, traceOf } from './trace.js';

export interface TenancyOptions {
  /** In the order in which they count. All that find something must agree. */
  readonly resolve: readonly [Resolver, ...Resolver[]];
  /** Who sent the request, as the product has verified it. */
  readonly principal?: (request: Request) => Principal | undefined;
}

export interface TenancyParts {
  readonly directory: Pick<Directory, 'peek' | 'find'>;
  /** @throws TenantryError why the tenant is not let in */
  readonly admit: (entry: TenantEntry, come: Circumstances) => Tenant | Promise<Tenant>;
}

/** RFC 9110 9.2.1, of those that Express routes. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS']);

interface Found {
  readonly source: string;
  readonly key: TenantKey | null;
}

export function createTenancy(parts: TenancyParts, options: TenancyOptions): RequestHandler {
  const { resolve } = options;
  return (request, response, next) => {
    const trace = traceOf(request.headers);
    const refuse = (error: unknown): void => {
      if (isOver(response)) return;
      // An answer that has begun can only be cut; the end of the chain does that.
      if (error instanceof TenantryError && !response.headersSent)
        sendProblem(response, error, trace.correlationId);
      else next(error);
    };
    const enter = (tenant: Tenant): void => {
      if (isOver(response)) return;
      // Throws for a request that is in another tenant already. What handlers throw, Express hands to `next` itself.
      try {
        for (const resolver of resolve) resolver.entered?.(request);
        enterTenant(tenant, () => {
          for (const heard of [request, response]) bindEmitter(heard);
          bindWrites(response);
          next();
        });
      } catch (error) {
        refuse(error);
      }
    };
    let tenant: Tenant | Promise<Tenant>;
    try {
      tenant = tenantOf(parts, options, request, trace);
    } catch (error) {
      return refuse(error);
    }
    // Outside of the `try`, since what a handler throws at once is no refusal of ours.
    if (!(tenant instanceof Promise)) return enter(tenant);
    // An error that nobody catches would end the process.
    // oxlint-disable-next-line promise/no-callback-in-promise -- `next` is Express' way out for errors
    tenant.then(enter, refuse).catch(next);
  };
}

/**
 * The tenant of a request; at once if memory knows enough.
 * @throws TenantryError why it is not let in, or what a resolver or `principal` throws
 */
export function tenantOf(
  parts: TenancyParts,
  { resolve, principal }: TenancyOptions,
  request: Request,
  trace: Trace,
): Tenant | Promise<Tenant> {
  const admit = (entry: TenantEntry | null | undefined): Tenant | Promise<Tenant> => {
    if (accessOf(entry) === 'read-only' && !SAFE.has(request.method))
      throw new TenantryError('TENANT_SUSPENDED', { mode: 'read-only' });
    // `accessOf` has refused a missing entry.
    return parts.admit(entry as TenantEntry, { ...trace, principal: principal?.(request) });
  };
  const found = findAll(resolve, request);
  const entry = agreed(found, (key) => parts.directory.peek(key));
  return entry === undefined ? ask(parts, found).then(admit) : admit(entry);
}

/**
 * A connection serves one request after another, and calls a response's listeners in the context of whoever used it last.
 * Of two requests that were pipelined, the second response is written while the first one ends.
 */
function bindWrites(response: Response): void {
  const write = response.write as (...args: unknown[]) => boolean;
  response.write = (...args: unknown[]) =>
    write.apply(
      response,
      args.map((arg) => (typeof arg === 'function' ? bindTenant(arg as () => void) : arg)),
    );
}

/** Nobody is left to serve: a time-out answered while the tenant was looked up, or the client is gone. */
function isOver(response: Response): boolean {
  return response.writableEnded || response.destroyed;
}

function findAll(resolvers: readonly Resolver[], request: Request): Found[] {
  const found: Found[] = [];
  for (const { source, find } of resolvers) {
    const key = find(request);
    if (key !== undefined) found.push({ source, key });
  }
  return found;
}

/**
 * The tenant that all agree on; null if none of them names one; undefined if memory does not know enough.
 * @throws TenantryError TENANT_AMBIGUOUS with the sources, never with what they named: a disagreement must not tell
 *   whether a tenant exists
 */
function agreed(
  found: readonly Found[],
  look: (key: TenantKey) => TenantEntry | null | undefined,
): TenantEntry | null | undefined {
  const [first, ...others] = found;
  if (first === undefined) return null;
  const entry = first.key === null ? null : look(first.key);
  for (const other of others) {
    if (other.key === first.key) continue;
    const its = other.key === null ? null : look(other.key);
    if (entry === undefined || its === undefined) return undefined;
    // Two names of nobody disagree as well, so that the answer does not tell who exists.
    if (entry === null || its === null || entry.tenantId !== its.tenantId)
      throw new TenantryError('TENANT_AMBIGUOUS', { sources: found.map(({ source }) => source).join(', ') });
  }
  return entry;
}

async function ask({ directory }: TenancyParts, found: readonly Found[]): Promise<TenantEntry | null> {
  const entries = new Map<TenantKey, TenantEntry | null>();
  const keys = found.flatMap(({ key }) => (key === null ? [] : [key]));
  await Promise.all(keys.map(async (key) => entries.set(key, (await directory.find(key)) ?? null)));
  return agreed(found, (key) => entries.get(key) ?? null) ?? null;
}
