/** Starts a provisioning as the API does. */
import { WithStartWorkflowOperation } from '@temporalio/client';
import type { Duration } from '@temporalio/common';
import {
  ADMIT,
  type Admission,
  FINISH,
  PROVISION_TENANT,
  type Patience,
  type ProvisionTenantInput,
} from '../../domain/contracts.js';
import type { OperationId, TenantId } from '../../domain/ids.js';
import { CELL, PLAN } from '../../domain/search-attributes.js';
import { lifecycleWorkflowId } from '../../domain/workflow-ids.js';
import type { World } from './world.js';

/** A test waits for a store that is away no longer than this. */
export const SHORT: Patience = { step: 30_000, undo: 30_000, attempt: 10_000 };

export async function startProvision(
  world: World,
  asked: {
    tenantId: TenantId;
    operationId: OperationId;
    attempt?: number;
    patience?: Patience;
    taskQueue?: string;
    /** The cell and the plan that the run begins with, before it is admitted. */
    foreseen?: { cell: string; plan: string };
    /** After which a worker that was killed in the middle of a workflow task is given up. */
    workflowTaskTimeout?: Duration;
    /** FINISH comes back at the end, and without the admission. */
    update?: typeof ADMIT | typeof FINISH;
  },
) {
  const { tenantId, operationId, attempt = 1, patience = SHORT, taskQueue = world.taskQueue } = asked;
  const input: ProvisionTenantInput = { tenantId, operationId, attempt, patience };
  const start = new WithStartWorkflowOperation(PROVISION_TENANT, {
    workflowId: lifecycleWorkflowId(tenantId),
    taskQueue,
    args: [input],
    ...(asked.foreseen
      ? {
          typedSearchAttributes: [
            { key: CELL, value: asked.foreseen.cell },
            { key: PLAN, value: asked.foreseen.plan },
          ],
        }
      : {}),
    ...(asked.workflowTaskTimeout ? { workflowTaskTimeout: asked.workflowTaskTimeout } : {}),
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const update = asked.update ?? ADMIT;
  const admission: Promise<Admission> = world.temporal.workflow.executeUpdateWithStart(update, {
    startWorkflowOperation: start,
    args: [{ operationId, attempt }],
    updateId: `${operationId}/${attempt}/${update}`,
  });
  // A refusal is its awaiter's, who may look at other things first.
  admission.catch(() => undefined);
  return { admission, handle: await start.workflowHandle() };
}

/** A tenant that is active when this is done. @returns its slug */
export async function provisioned(world: World): Promise<string> {
  const asked = await world.ask();
  const { handle } = await startProvision(world, asked);
  await handle.result();
  return asked.slug;
}
