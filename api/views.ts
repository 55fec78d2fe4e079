/** Records of the catalogue as the API shows them. */
import type { z } from 'zod';
import type { Catalogue } from '../catalogue/index.js';
import type { BatchItemRecord, OperationRecord, StepRecord } from '../catalogue/operations.js';
import type { LedgerEntry, TenantRecord } from '../catalogue/tenants.js';
import { TenantryError } from '../domain/errors.js';
import type { OperationId } from '../domain/ids.js';
import type { allocationView, operationView, stepView, tenantView } from '../domain/requests.js';

export type OperationView = z.output<typeof operationView>;

export const tenantPath = (id: string): string => `/v1/tenants/${id}`;
export const operationPath = (id: string): string => `/v1/operations/${id}`;

export function viewTenant(tenant: TenantRecord): z.output<typeof tenantView> {
  const self = tenantPath(tenant.id);
  return {
    id: tenant.id,
    slug: tenant.slug,
    name: tenant.name,
    plan: tenant.plan,
    cell: tenant.cell,
    state: tenant.state,
    generation: tenant.generation,
    createdAt: tenant.createdAt.toISOString(),
    updatedAt: tenant.updatedAt.toISOString(),
    links: { self, allocations: `${self}/allocations` },
  };
}

export function viewAllocation(entry: LedgerEntry): z.output<typeof allocationView> {
  return { ...entry, updatedAt: entry.updatedAt.toISOString() };
}

/**
 * An operation with its steps and, for a batch, its results.
 * @throws TenantryError OPERATION_NOT_FOUND
 */
export async function readOperation(catalogue: Catalogue, id: OperationId): Promise<OperationView> {
  const operation = await catalogue.operations.findWithSteps(id);
  if (operation === undefined) throw new TenantryError('OPERATION_NOT_FOUND');
  // After the operation: one that is over then never comes with results from before its end.
  const results =
    operation.kind === 'provision-batch' ? await catalogue.operations.batchItems(id) : undefined;
  return viewOperation(operation, operation.steps, results);
}

export function viewOperation(
  operation: OperationRecord,
  steps: readonly StepRecord[],
  results?: readonly BatchItemRecord[],
): OperationView {
  return {
    id: operation.id,
    kind: operation.kind,
    tenantId: operation.tenantId,
    status: operation.status,
    attempt: operation.attempt,
    steps: steps.map(viewStep),
    error: operation.error,
    residue: operation.residue.map((left) => ({ ...left })),
    ...(results === undefined ? {} : { results: results.map((result) => ({ ...result })) }),
    startedAt: operation.startedAt.toISOString(),
    finishedAt: operation.finishedAt?.toISOString() ?? null,
    links: {
      self: operationPath(operation.id),
      ...(operation.tenantId === null ? {} : { tenant: tenantPath(operation.tenantId) }),
    },
  };
}

function viewStep(step: StepRecord): z.output<typeof stepView> {
  return {
    name: step.name,
    status: step.status,
    attempts: step.attempts,
    startedAt: step.startedAt.toISOString(),
    finishedAt: step.finishedAt?.toISOString() ?? null,
    lastError: step.lastError,
    evidence: step.evidence,
  };
}
