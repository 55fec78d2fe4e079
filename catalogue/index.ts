/** The door of the catalogue: the control database and its repositories. */
import { admissionRepository } from './admission.js';
import { batchAdmissionRepository } from './batch-admission.js';
import { batchRepository } from './batches.js';
import { canaryRepository } from './canaries.js';
import { cellRepository } from './cells.js';
import { isolationProbeRepository } from './isolation-probes.js';
import { operationRepository } from './operations.js';
import { createPool } from './pool.js';
import { requestRepository } from './requests.js';
import { stepRepository } from './steps.js';
import { tenantRepository } from './tenants.js';

export type Catalogue = ReturnType<typeof openCatalogue>;

/** @param url the control database, as the catalogue role */
export function openCatalogue({ url, name, max = 10 }: { url: string; name: string; max?: number }) {
  const pool = createPool({ url, name, max });
  return {
    pool,
    admission: admissionRepository(pool),
    batches: { ...batchAdmissionRepository(pool), ...batchRepository(pool) },
    canaries: canaryRepository(pool),
    cells: cellRepository(pool),
    isolationProbes: isolationProbeRepository(pool),
    operations: operationRepository(pool),
    requests: requestRepository(pool),
    steps: stepRepository(pool),
    tenants: tenantRepository(pool),
    /** @throws when the catalogue cannot be reached or was not migrated. */
    async ping(): Promise<void> {
      await pool.query('SELECT FROM cell LIMIT 1');
    },
    close: (): Promise<void> => pool.end(),
  };
}
