/**
 * Tries in every store of every cell to reach one tenant's data as another tenant. The first attempt that succeeds ends the run
 * as a failure, for an operator to look at. A cell that could not be tried makes it fail too, because that proves nothing.
 */
import { CancellationScope, isCancellation, log, setCurrentDetails, uuid4 } from '@temporalio/workflow';
import type { IsolationProbeInput, IsolationProbeOutcome, Patience } from '../domain/contracts.js';
import type { CellName, OperationId } from '../domain/ids.js';
import { catalogueEffects, probeEffects } from './effects.js';
import { failureOf, recordedError, refusalOf } from './failure.js';

/** A store that is away for longer is left to the next probe. */
const PATIENCE: Patience = { step: 120_000, undo: 0, attempt: 60_000 };

export async function isolationProbe(input: IsolationProbeInput): Promise<IsolationProbeOutcome> {
  const patience = input.patience ?? PATIENCE;
  const operationId = uuid4() as OperationId;
  const quick = catalogueEffects(patience);
  let failure: unknown;
  let pairs = 0;
  let cells: readonly CellName[] = [];
  try {
    cells = await quick.beginIsolationProbe({ operationId });
  } catch (error) {
    // The catalogue may have recorded it as begun all the same: it is closed below.
    failure = error;
  }
  for (const cell of cells) {
    setCurrentDetails(`Trying to cross from tenant to tenant in cell ${cell}.`);
    try {
      const asked = { operationId, cell, sample: input.sample };
      pairs += (await probeEffects(patience, cell).probeCell(asked)).pairs;
    } catch (error) {
      const breach = refusalOf(error).code === 'ISOLATION_BREACH';
      // A cell that is away does not keep the others from being tried. A breach is reported at once.
      failure = breach ? error : (failure ?? error);
      if (breach) log.error('ISOLATION BREACH', { cell, operationId });
      if (breach || isCancellation(error)) break;
    }
  }
  const error = failure === undefined ? null : recordedError(failure);
  await CancellationScope.nonCancellable(() => quick.closeIsolationProbe({ operationId, error }));
  if (failure !== undefined) {
    const refusal = refusalOf(failure);
    setCurrentDetails(`${refusal.code}. Operation ${operationId} says what was seen.`);
    throw isCancellation(failure) ? failure : failureOf(refusal);
  }
  setCurrentDetails(`${pairs} pairs of tenants in ${cells.length} cells: nobody got through.`);
  return { operationId, pairs };
}
