/** The catalogue's side of a batch, and the undoing of what failed in it. */
import { Context } from '@temporalio/activity';
import type { DoomedTenant } from '../../catalogue/batches.js';
import type { BatchActivities } from '../../domain/contracts.js';
import { TenantryError } from '../../domain/errors.js';
import type { StoreName } from '../../domain/operation.js';
import { inStore } from '../../tenancy/store-error.js';
import type { ActivityDependencies } from '../dependencies.js';
import { eachLimited } from '../each-limited.js';
import { inCatalogue } from '../failure.js';
import { lateness } from '../lifecycle.js';
import { removal } from '../removal.js';

const UNDONE_AT_ONCE = 4;

export function batchLifecycleActivities(
  deps: ActivityDependencies,
): Pick<
  BatchActivities,
  'admitBatch' | 'withdrawBatch' | 'batchActivate' | 'batchFail' | 'batchUndo' | 'batchAbandon' | 'closeBatch'
> {
  const { batches } = deps.catalogue;
  return {
    async admitBatch({ operationId, attempt, admitBy }) {
      const answer = await inCatalogue(
        deps,
        'admit',
        batches.admit(operationId, attempt, deps.blueprint, admitBy),
      );
      return { ...answer, ...lateness() };
    },
    withdrawBatch: ({ operationId, attempt }) =>
      inCatalogue(deps, 'withdraw', batches.withdraw(operationId, attempt)),
    batchActivate: async (fence) => ({
      failed: await inCatalogue(deps, 'activate', batches.activate(fence)),
    }),
    batchFail: ({ status, error, ...fence }) => inCatalogue(deps, 'fail', batches.fail(fence, status, error)),
    closeBatch: ({ operationId, attempt }) => inCatalogue(deps, 'close', batches.close(operationId, attempt)),

    batchUndo: (fence) =>
      inCatalogue(
        deps,
        'undo',
        batches.undo(fence, async () => {
          const doomed = await batches.toUndo(fence);
          const results = await eachLimited(doomed, UNDONE_AT_ONCE, async (tenant) => {
            await undoTenant(deps, tenant);
            Context.current().heartbeat();
            return tenant;
          });
          const undone = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
          await batches.undone(fence, undone, true);
          const failures = results.flatMap((result) =>
            result.status === 'rejected' ? [result.reason as unknown] : [],
          );
          // The next attempt takes up those that are left.
          if (failures.length > 0) throw passingFirst(failures);
        }),
      ),

    async batchAbandon(fence) {
      const doomed = await inCatalogue(deps, 'abandon', batches.toUndo(fence));
      await inCatalogue(deps, 'abandon', batches.undone(fence, doomed, false));
    },
  };
}

/** Newest first, as for a single tenant. If one store's undo fails, the others are undone all the same. */
async function undoTenant(deps: ActivityDependencies, tenant: DoomedTenant): Promise<void> {
  const removed = removal(deps);
  const connections = await deps.cells.get(tenant.cell);
  const failures: unknown[] = [];
  const undo = async (store: StoreName, work: () => Promise<unknown>): Promise<void> => {
    await inStore(store, work()).catch((error: unknown) => failures.push(error));
  };
  await undo('redis', () => removed.redis(connections, tenant));
  await undo('mongo', async () => {
    const { left } = await removed.mongo(connections, tenant);
    if (left.length === 0) return;
    const detail = 'collections are left after the drop';
    throw new TenantryError('VERIFICATION_FAILED', { store: 'MongoDB', detail });
  });
  await undo('postgres', () => removed.postgres(connections, tenant));
  if (failures.length > 0) throw passingFirst(failures);
}

/** Of several failures the one that passes: another attempt is due as long as it undoes anything more. */
const passingFirst = (failures: readonly unknown[]): unknown =>
  failures.find((failure) => failure instanceof TenantryError && failure.retryable) ?? failures[0];
