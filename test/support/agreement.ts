/** The sentence that every fault test ends with: ledger and stores agree, item by item. */
import type { OperationId, TenantId } from '../../domain/ids.js';
import { type Finding, disagreements, surveyTenant } from '../../tenancy/survey.js';
import type { World } from './world.js';

export async function expectAgreement(world: World, tenantId: TenantId): Promise<Finding[]> {
  const found = await surveyTenant(await world.dependencies.cells.get(world.cell), tenantId);
  expect(disagreements(await world.catalogue.tenants.allocations(tenantId), found)).toEqual([]);
  return found;
}

/** The operation names all of it as what is left. */
export async function expectResidue(
  world: World,
  operationId: OperationId,
  found: readonly Finding[],
): Promise<void> {
  const residue = (await world.catalogue.operations.find(operationId))?.residue;
  expect(residue).toEqual(
    expect.arrayContaining(found.map((item): unknown => expect.objectContaining(item))),
  );
}
