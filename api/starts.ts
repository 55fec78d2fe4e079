/** How each kind of operation is started: its workflow, and the words that Temporal's page shows for it. */
import {
  type AdmitArgs,
  type AdmitBy,
  PROVISION_BATCH,
  PROVISION_TENANT,
  type ProvisionBatchInput,
  type ProvisionTenantInput,
} from '../domain/contracts.js';
import type { CellName, OperationId, TenantId } from '../domain/ids.js';
import type { OperationKind } from '../domain/operation.js';
import { batchWorkflowId, lifecycleWorkflowId } from '../domain/workflow-ids.js';

/** How an operation is started. Ids only: all of it can be read in Temporal's own page. */
export interface Start {
  readonly kind: OperationKind;
  readonly workflowType: string;
  readonly workflowId: string;
  readonly operationId: OperationId;
  readonly tenantId: TenantId | undefined;
  /** The workflow mends it where admission has it otherwise. That costs, so most runs are to begin with what is right. */
  readonly foreseen: { readonly cell?: CellName | undefined; readonly plan?: string | undefined };
  readonly attempt: number;
  readonly input: ProvisionTenantInput | ProvisionBatchInput;
  /** Whether its run can be asked for its end (FINISH) as it is started. */
  readonly finishes: boolean;
  /** One line for the list of runs, and some for the page of one. */
  readonly summary: string;
  readonly details: string;
}

/** With what a run is asked for its admission. Asked again, it is the same update. */
export const askingFor = ({ operationId, attempt }: Start): { updateId: string; args: [AdmitArgs] } => ({
  updateId: attempt === 1 ? operationId : `${operationId}/${attempt}`,
  args: [{ operationId, attempt }],
});

/** @param foreseen where the tenant will be and on which plan, as far as it is known before it is admitted */
export function provisionStart(
  tenantId: TenantId,
  operationId: OperationId,
  attempt: number,
  admitBy: AdmitBy | undefined,
  foreseen: Start['foreseen'] = {},
): Start {
  return {
    kind: 'provision',
    workflowType: PROVISION_TENANT,
    workflowId: lifecycleWorkflowId(tenantId),
    operationId,
    tenantId,
    foreseen,
    attempt,
    input: { tenantId, operationId, attempt, admitBy },
    finishes: true,
    summary: `Provision a tenant${again(attempt)}`,
    details: `Tenant ${tenantId}, operation ${operationId}. Its name and plan are in the catalogue.`,
  };
}

export function batchStart(operationId: OperationId, attempt: number, admitBy: AdmitBy | undefined): Start {
  return {
    kind: 'provision-batch',
    workflowType: PROVISION_BATCH,
    workflowId: batchWorkflowId(operationId),
    operationId,
    tenantId: undefined,
    foreseen: {},
    attempt,
    input: { operationId, attempt, admitBy },
    finishes: false,
    summary: `Provision a batch of tenants${again(attempt)}`,
    details: `Operation ${operationId}. The tenants, and what became of each, are in the catalogue.`,
  };
}

const again = (attempt: number): string => (attempt === 1 ? '' : `, attempt ${attempt}`);
