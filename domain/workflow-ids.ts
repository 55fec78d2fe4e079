/** Workflow ids, made from the business key: the id is the lock. */
import type { OperationId, TenantId } from './ids.js';

/** All lifecycle operations of a tenant share it, so that a second one meets the first. */
export const lifecycleWorkflowId = (tenant: TenantId): string => `tenant/${tenant}`;

export const batchWorkflowId = (operation: OperationId): string => `tenant-batch/${operation}`;
