/** The residue of an operation: what the ledger still knows of its tenants when it is over. */
import type { PoolClient } from 'pg';
import type { OperationId } from '../domain/ids.js';

/** SQL: the residue of an operation, of the allocations `a` that its undo should have removed. */
export const RESIDUE = `coalesce(jsonb_agg(jsonb_build_object('store', a.store, 'kind', a.kind, 'name', a.name,
    'reason', 'the undo could not remove it')), '[]')`;

/**
 * Says anew, of an operation that is over, what is left, when something was removed or left after its end. Its caller holds
 * the operation, so that nothing that it says of it is said twice at once.
 */
export async function restateResidue(client: PoolClient, operationId: OperationId): Promise<void> {
  await client.query(
    `UPDATE operation o SET residue = (
         SELECT ${RESIDUE}
           FROM (SELECT o.tenant_id AS id
                  UNION SELECT tenant_id FROM batch_item
                         WHERE operation_id = o.id AND status IN ('failed', 'cancelled')) undone
           JOIN allocation a ON a.tenant_id = undone.id AND a.state <> 'released')
      WHERE o.id = $1 AND o.status IN ('failed', 'cancelled')`,
    [operationId],
  );
}
