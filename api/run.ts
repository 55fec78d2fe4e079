/** The run of an operation as Temporal is asked for it, and one in the place of a run that is not there any more. */
import { WorkflowNotFoundError, type WorkflowStartOptions } from '@temporalio/client';
import { TypedSearchAttributes } from '@temporalio/common';
import { TenantryError } from '../domain/errors.js';
import { CELL, OPERATION_KIND, PLAN, TENANT_ID } from '../domain/search-attributes.js';
import { until, within } from './bounded.js';
import type { ApiDeps } from './deps.js';
import type { Start } from './starts.js';

export const runOf = (start: Start, { config }: Pick<ApiDeps, 'config'>) =>
  ({
    workflowId: start.workflowId,
    taskQueue: config.TENANTRY_TEMPORAL_TASK_QUEUE,
    args: [start.input],
    workflowIdConflictPolicy: 'USE_EXISTING',
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    staticSummary: start.summary,
    staticDetails: start.details,
    memo: { operationId: start.operationId, attempt: start.attempt },
    typedSearchAttributes: new TypedSearchAttributes([
      { key: OPERATION_KIND, value: start.kind },
      ...known(TENANT_ID, start.tenantId),
      ...known(CELL, start.foreseen.cell),
      ...known(PLAN, start.foreseen.plan),
    ]),
  }) satisfies WorkflowStartOptions;

const known = (key: typeof TENANT_ID | typeof CELL | typeof PLAN, value: string | undefined) =>
  value === undefined ? [] : [{ key, value }];

/**
 * Gives an operation that was admitted and has not ended a run, if it has none: Temporal may have lost it, or somebody may
 * have terminated it. The new run finds its own admission and goes on.
 * @param stillRuns whether the operation still has not come to its end
 * @returns false where there was nothing to do
 * @throws TenantryError ENGINE_UNAVAILABLE
 */
export async function runAgain(
  deps: ApiDeps,
  start: Start,
  stillRuns: () => Promise<boolean>,
): Promise<boolean> {
  const { temporal, config } = deps;
  const time = config.TENANTRY_ADMISSION_TIMEOUT_MS;
  const asking = <T>(work: () => Promise<T>): Promise<T> =>
    within(time, [], (late) => until(temporal, late, time, work)).catch((error: unknown) => {
      throw new TenantryError('ENGINE_UNAVAILABLE', {}, { cause: error });
    });
  if (await asking(() => isOpen(deps, start))) return false;
  // A run comes to its end after its operation: one that has ended just now has done so too.
  if (!(await stillRuns())) return false;
  await asking(() => temporal.workflow.start(start.workflowType, runOf(start, deps)));
  return true;
}

/** Any run of the tenant: an older one has to come to its end first. */
async function isOpen({ temporal }: ApiDeps, { workflowId }: Start): Promise<boolean> {
  try {
    const { status } = await temporal.workflow.getHandle(workflowId).describe();
    return status.name === 'RUNNING';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}
