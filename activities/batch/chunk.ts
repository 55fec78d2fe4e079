/**
 * The frame of a step over a chunk of tenants. What one tenant cannot have (a foreign thing has its name) fails that
 * tenant alone; a store that is away fails the attempt, and the next one finds what this one made.
 */
import { CancelledFailure, Context } from '@temporalio/activity';
import type { ChunkTenant, TenantFailure } from '../../catalogue/batches.js';
import { catalogueError } from '../../catalogue/pool.js';
import type { BatchFence, ChunkResult } from '../../domain/contracts.js';
import { toRecordedError } from '../../domain/errors.js';
import type { CellName, TenantId } from '../../domain/ids.js';
import type { AllocationState, StoreName } from '../../domain/operation.js';
import type { PreparedCell } from '../../tenancy/cell-registry.js';
import { openCredential } from '../../tenancy/credential.js';
import { storeError } from '../../tenancy/store-error.js';
import type { ActivityDependencies } from '../dependencies.js';
import { eachLimited } from '../each-limited.js';
import { inCatalogue, toApplicationFailure } from '../failure.js';
import { takenBack } from '../take-back.js';

/** Tenants of a chunk in one cell, with the cell's connections. */
export interface CellChunk {
  readonly connections: PreparedCell;
  readonly tenants: readonly ChunkTenant[];
  password(tenant: ChunkTenant, store: 'mongo' | 'redis'): string;
  /**
   * Tells Temporal that the chunk is alive.
   * @throws CancelledFailure when the attempt is to end: the run was cancelled, or the worker shuts down.
   */
  heartbeat(): void;
}

export interface ChunkOutcome {
  readonly failed: readonly { readonly tenantId: TenantId; readonly error: unknown }[];
  readonly evidence?: ChunkEvidence;
}

/** What a verification saw in one cell, or in several. */
export interface ChunkEvidence {
  readonly by: 'catalogue';
  /** How many were looked at. */
  readonly tenants: number;
  readonly probedToo: readonly unknown[];
}

export interface ChunkStep {
  readonly name: string;
  readonly stores: readonly StoreName[];
  readonly leaves: AllocationState;
  /** Takes the effect on a tenant back when it turns out that it was undone meanwhile. */
  readonly revert?: (connections: PreparedCell, tenant: ChunkTenant) => Promise<unknown>;
}

const TAKEN_BACK_AT_ONCE = 4;

export async function chunkStep(
  deps: ActivityDependencies,
  fence: BatchFence,
  definition: ChunkStep,
  effect: (chunk: CellChunk) => Promise<ChunkOutcome>,
): Promise<ChunkResult> {
  const { batches } = deps.catalogue;
  const { name, stores, leaves } = definition;
  const step = `${name} ${chunkLabel(fence)}`;
  const { attempt, tenants } = await inCatalogue(deps, step, batches.begin(fence, step));
  try {
    const failed: TenantFailure[] = [];
    const evidence: ChunkEvidence[] = [];
    for (const [cell, group] of byCell(tenants)) {
      const outcome = await effect(await cellChunk(deps, cell, group));
      failed.push(
        ...outcome.failed.map(({ tenantId, error }) => ({ tenantId, error: toRecordedError(error) })),
      );
      if (outcome.evidence !== undefined) evidence.push(outcome.evidence);
    }
    const done = tenants
      .map((t) => t.tenantId)
      .filter((id) => !failed.some((failure) => failure.tenantId === id));
    const kept = await batches
      .finish(fence, step, { done, failed, stores, allocations: leaves, evidence: together(evidence) })
      .catch((error: unknown) => {
        throw catalogueError(error);
      });
    // Also those that failed here: perhaps they did because they were being undone.
    const others = tenants.filter((tenant) => !kept.includes(tenant.tenantId));
    await takeBack(deps, fence, definition, others);
    return { failed: failed.length };
  } catch (error) {
    if (error instanceof CancelledFailure) {
      await takeBack(deps, fence, definition, tenants);
      throw error;
    }
    const known = stores.length === 1 && stores[0] !== undefined ? storeError(stores[0], error) : error;
    if (attempt !== undefined)
      await batches.failStep(fence, step, attempt, toRecordedError(known)).catch((reason: unknown) => {
        deps.log.debug({ err: reason, step }, 'the failure of a step was not recorded');
      });
    // Half of it may be there.
    await takeBack(deps, fence, definition, tenants);
    throw toApplicationFailure(known, deps.log, step);
  }
}

const together = (seen: readonly ChunkEvidence[]): ChunkEvidence | null =>
  seen.length === 0
    ? null
    : {
        by: 'catalogue',
        tenants: seen.reduce((total, { tenants }) => total + tenants, 0),
        probedToo: seen.flatMap(({ probedToo }) => probedToo),
      };

/** Takes back what was made for those of the tenants whose run was undone meanwhile. */
async function takeBack(
  deps: ActivityDependencies,
  fence: BatchFence,
  { name, stores, revert }: ChunkStep,
  tenants: readonly ChunkTenant[],
): Promise<void> {
  if (revert === undefined || tenants.length === 0) return;
  await takenBack(deps, name, () =>
    deps.catalogue.batches.takeBack(fence, tenants, stores, (overtaken) =>
      eachLimited(overtaken, TAKEN_BACK_AT_ONCE, async (tenant) =>
        revert(await deps.cells.get(tenant.cell), tenant),
      ),
    ),
  );
}

/** `1-100`: the positions of a chunk as people count. */
const chunkLabel = ({ ordinals }: BatchFence): string =>
  `${(ordinals[0] ?? 0) + 1}-${(ordinals.at(-1) ?? 0) + 1}`;

/**
 * Works on each tenant of a chunk in one store, a few at once. Throws what another attempt at the whole chunk may mend (an
 * outage), and the cancellation of this attempt; anything else is that tenant's own failure.
 */
export async function eachTenant(
  store: StoreName,
  chunk: CellChunk,
  atOnce: number,
  work: (tenant: ChunkTenant) => Promise<unknown>,
): Promise<ChunkOutcome> {
  const results = await eachLimited(chunk.tenants, atOnce, async (tenant) => {
    chunk.heartbeat();
    await work(tenant);
  });
  const cut = results.find(wasCut);
  if (cut !== undefined) throw cut.reason;
  const failed: { tenantId: TenantId; error: unknown }[] = [];
  for (const [index, result] of results.entries()) {
    const tenantId = chunk.tenants[index]?.tenantId;
    if (result.status === 'fulfilled' || tenantId === undefined) continue;
    const error = storeError(store, result.reason);
    if (error.retryable) throw error;
    failed.push({ tenantId, error });
  }
  return { failed };
}

const wasCut = (result: PromiseSettledResult<unknown>): result is PromiseRejectedResult =>
  result.status === 'rejected' && result.reason instanceof CancelledFailure;

function byCell(tenants: readonly ChunkTenant[]): Map<CellName, ChunkTenant[]> {
  const groups = new Map<CellName, ChunkTenant[]>();
  for (const tenant of tenants) groups.set(tenant.cell, [...(groups.get(tenant.cell) ?? []), tenant]);
  return groups;
}

async function cellChunk(
  { cells, secrets }: ActivityDependencies,
  cell: CellName,
  tenants: readonly ChunkTenant[],
): Promise<CellChunk> {
  const context = Context.current();
  return {
    connections: await cells.get(cell),
    tenants,
    password: ({ tenantId, credentials }, store) => openCredential(secrets, tenantId, store, credentials),
    heartbeat() {
      context.heartbeat();
      context.cancellationSignal.throwIfAborted();
    },
  };
}
