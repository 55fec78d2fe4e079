/** The data plane over a world's catalogue, with stores that only say whose they are. */
import { randomBytes, randomUUID } from 'node:crypto';
import { newTenantId, type TenantId } from '../../../domain/ids.js';
import type { TenantState } from '../../../domain/tenant-state.js';
import type { CellStores } from '../../../tenancy/context/entered-tenant.js';
import {
  openTenantry,
  type TenantContext,
  type Tenantry,
  type TenantryOptions,
} from '../../../tenancy/index.js';
import type { World } from '../../support/world.js';

export const signingKeys = { sign: { id: 'k1', secret: randomBytes(32) } };

export function open(world: World, options: Partial<TenantryOptions> = {}): Tenantry {
  return openTenantry({
    catalogueUrl: world.url('control', 'lookup'),
    rootKey: Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
    signingKeys,
    resolveSecret: (reference) => world.env[reference.replace(/^env:/, '')] ?? '',
    stores: () => labelledStores(),
    ...options,
  });
}

/** Each says the tenant that it was made for. */
export function labelledStores(): CellStores {
  const label = (context: TenantContext): { of: TenantId } => ({ of: context.tenantId });
  // Tests of the context need no store's methods.
  return {
    pg: { forTenant: label },
    mongo: { forTenant: label },
    redis: { forTenant: label },
    close: async () => undefined,
  } as unknown as CellStores;
}

export const ownerOf = (store: unknown): TenantId => (store as { of: TenantId }).of;

export interface Row {
  readonly tenantId: TenantId;
  readonly slug: string;
}

/** A tenant in the catalogue alone. */
export async function insertTenant(
  world: World,
  {
    state = 'active',
    mode = 'open',
    slug = `t-${randomUUID().slice(0, 13)}`,
  }: { state?: TenantState; mode?: string; slug?: string } = {},
): Promise<Row> {
  const tenantId = newTenantId();
  await world.catalogue.pool.query(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, mode, generation) VALUES ($1, $2, 'Acme', 'team', $3, $4, $5, 1)`,
    [tenantId, slug, world.cell, state, mode],
  );
  return { tenantId, slug };
}

export async function change(
  world: World,
  id: TenantId,
  to: { state: TenantState; mode?: string },
): Promise<void> {
  await world.catalogue.pool.query('UPDATE tenant SET state = $2, mode = $3 WHERE id = $1', [
    id,
    to.state,
    to.mode ?? 'open',
  ]);
}

/** The error's code, or what came instead. */
export async function codeOf(work: () => unknown): Promise<unknown> {
  try {
    return { came: await work() };
  } catch (error) {
    return error instanceof Error && 'code' in error ? error.code : error;
  }
}
