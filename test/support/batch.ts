/** Batches, asked for and started as the API does it. */
import { randomUUID } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import {
  ADMIT,
  type BatchAdmission,
  type Patience,
  PROVISION_BATCH,
  type ProvisionBatchInput,
} from '../../domain/contracts.js';
import type { OperationId } from '../../domain/ids.js';
import { batchWorkflowId } from '../../domain/workflow-ids.js';
import { SHORT } from './provision.js';
import type { World } from './world.js';

export const newSlugs = (count: number): string[] =>
  Array.from({ length: count }, () => `b-${randomUUID().slice(0, 13)}`);

export async function askForBatch(
  world: World,
  slugs: readonly string[],
  name = 'Acme',
): Promise<OperationId> {
  const tenants = slugs.map((slug) => ({ slug, name, plan: 'team' }));
  const intake = await world.catalogue.requests.intake({ kind: 'provision-batch', body: { tenants } });
  return intake.operationId;
}

/** @param chunkSize tenants that are made together */
export async function startBatch(
  world: World,
  operationId: OperationId,
  attempt = 1,
  chunkSize = 10,
  patience: Patience = SHORT,
) {
  const input: ProvisionBatchInput = { operationId, attempt, patience, chunkSize };
  const startWorkflowOperation = new WithStartWorkflowOperation(PROVISION_BATCH, {
    workflowId: batchWorkflowId(operationId),
    taskQueue: world.taskQueue,
    args: [input],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const admission: BatchAdmission = await world.temporal.workflow.executeUpdateWithStart(ADMIT, {
    startWorkflowOperation,
    args: [{ operationId, attempt }],
    updateId: `${operationId}/${attempt}`,
  });
  return { admission, handle: await startWorkflowOperation.workflowHandle() };
}
