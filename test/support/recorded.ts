/** What the catalogue has recorded, read as the API reads it. */
import type { Catalogue } from '../../catalogue/index.js';
import type { StepRecord } from '../../catalogue/operations.js';
import type { OperationId } from '../../domain/ids.js';

interface Recorded {
  readonly catalogue: Catalogue;
}

/** In the order in which they began. */
export async function stepsOf({ catalogue }: Recorded, id: OperationId): Promise<StepRecord[]> {
  return (await catalogue.operations.findWithSteps(id))?.steps ?? [];
}

/** Whether a tenant of this slug was admitted. */
export async function isSlugTaken({ catalogue }: Recorded, slug: string): Promise<boolean> {
  return (await catalogue.tenants.list({ slug }, 1)).items.length > 0;
}
