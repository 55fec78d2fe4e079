/** The door of the catalogue: the control database and its repositories. */
import { admissionRepository } from './admission.js';
import { batchAdmissionRepository } from './batch-admission.js';
import { batchRepository } from './batches.js';
import { canaryRepository } from './canaries.js';
import { cellRepository } from './cells.js';
import { isolationProbeRepository } from './isolation-probes.js';
import { operationRepository } from './operations.js';
import { createPool, type PoolOptions } from './pool.js';
import { requestRepository } from './requests.js';
import { hasItsShape } from './shape.js';
import { stepRepository } from './steps.js';
import { tenantRepository } from './tenants.js';

export type Catalogue = ReturnType<typeof openCatalogue>;

/** Connections of undos, which hold theirs for as long as a store takes, and do nothing over it meanwhile. */
export const UNDOS_AT_ONCE = 32;
/** Likewise of steps that take back what they made. Of their own: nobody else removes that, and undos may have all of theirs. */
const TAKE_BACKS_AT_ONCE = 8;

/**
 * @param url the control database, as the catalogue role
 * @param max connections for statements; what is undone or taken back has its own
 */
export function openCatalogue({
  url,
  name,
  max = 10,
  ...rest
}: Pick<PoolOptions, 'url' | 'name' | 'idleInTransaction'> & { readonly max?: number }) {
  const pool = createPool({ url, name, max, ...rest });
  // The store may be away: what is quick does not wait behind that. Nothing happens over these meanwhile.
  const longest = { url, idleInTransaction: 0 };
  const undoing = createPool({ ...longest, name: `${name}-undo`, max: UNDOS_AT_ONCE });
  const takingBack = createPool({ ...longest, name: `${name}-take-back`, max: TAKE_BACKS_AT_ONCE });
  return {
    pool,
    admission: admissionRepository(pool),
    batches: { ...batchAdmissionRepository(pool), ...batchRepository(pool, undoing, takingBack) },
    canaries: canaryRepository(pool),
    cells: cellRepository(pool),
    isolationProbes: isolationProbeRepository(pool),
    operations: operationRepository(pool),
    requests: requestRepository(pool),
    steps: stepRepository(pool, undoing, takingBack),
    tenants: tenantRepository(pool, undoing),
    /** Whether it was brought to the shape that this version works with. */
    hasItsShape: (): Promise<boolean> => hasItsShape(pool),
    async close(): Promise<void> {
      await Promise.all([pool.end(), undoing.end(), takingBack.end()]);
    },
  };
}
