/**
 * Provisions one tenant: the catalogue admits it, the three stores make it side by side, probes prove it, and it is
 * activated. On failure or cancellation everything is undone, newest first, and what could not be undone is reported.
 */
import {
  CancellationScope,
  CancelledFailure,
  defineUpdate,
  isCancellation,
  log,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import {
  ADMIT,
  type AdmitArgs,
  type Admission,
  type AdmissionResult,
  type Closed,
  DEFAULT_PATIENCE,
  type Fence,
  FINISH,
  type OperationOutcome,
  type Patience,
  type ProvisionTenantInput,
  type Refusal,
} from '../domain/contracts.js';
import { CELL, PLAN } from '../domain/search-attributes.js';
import { admittedUnlessCancelled } from './admitted.js';
import { catalogueEffects, storeEffects, undoEffects } from './effects.js';
import { endedBy, failureOf, refuseLaterAttempt, recordedError, refusalOf } from './failure.js';
import { allOrNone, handlersFinished } from './settle.js';

export const admit = defineUpdate<Admission, [AdmitArgs]>(ADMIT);
export const finish = defineUpdate<void, [AdmitArgs]>(FINISH);

export async function provisionTenant(input: ProvisionTenantInput): Promise<OperationOutcome> {
  const patience = input.patience ?? DEFAULT_PATIENCE;
  setCurrentDetails('Waiting for the catalogue to admit the operation.');
  const answering = admission(input, patience);
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const admitted = async ({ operationId }: AdmitArgs): Promise<Admission> => {
    // Another operation met this run because the workflow's id is the tenant's lock.
    if (operationId !== input.operationId)
      throw failureOf({ code: 'OPERATION_RUNNING', params: { operationId: input.operationId } });
    // A cancelled run still has an answer, which its caller waits for: a plain promise is in no cancellation scope.
    const given = await answering;
    if ('refused' in given) throw failureOf(given.refused);
    return given.admitted;
  };
  const validator = refuseLaterAttempt(input);
  setHandler(admit, admitted, { validator });
  setHandler(finish, (asked) => admitted(asked).then(() => ended), { validator });
  const answer = await answering;
  if ('refused' in answer) {
    setCurrentDetails(`Refused: ${answer.refused.code}. Nothing was made.`);
    await handlersFinished();
    return { status: answer.refused === WITHDRAWN ? 'withdrawn' : 'refused' };
  }

  const { cell, plan, generation, operationId, tenantId } = answer.admitted;
  const begunWith = workflowInfo().typedSearchAttributes;
  if (begunWith.get(CELL) !== cell || begunWith.get(PLAN) !== plan)
    upsertSearchAttributes([
      { key: CELL, value: cell },
      { key: PLAN, value: plan },
    ]);
  try {
    await provision({ operationId, tenantId, generation }, patience);
  } finally {
    end();
    await handlersFinished();
  }
  return { status: 'succeeded' };
}

const WITHDRAWN: Refusal = { code: 'ADMISSION_TIMEOUT', params: {} };

/** An operation that is cancelled before it was admitted is taken back, and nothing is left of it. */
async function admission(
  { operationId, attempt, admitBy }: ProvisionTenantInput,
  patience: Patience,
): Promise<AdmissionResult> {
  try {
    return await admittedUnlessCancelled(
      catalogueEffects(patience).admitProvision({ operationId, attempt, admitBy }),
    );
  } catch (error) {
    log.warn('the admission did not come about; it is taken back', { code: refusalOf(error).code });
    setCurrentDetails('Not admitted in time: taking the admission back.');
    await CancellationScope.nonCancellable(() =>
      catalogueEffects(patience).withdrawAdmission({ operationId, attempt }),
    );
    return { refused: WITHDRAWN };
  }
}

async function provision(fence: Fence, patience: Patience): Promise<void> {
  try {
    setCurrentDetails('Making the tenant in PostgreSQL, MongoDB and Redis.');
    await allOrNone([
      () => storeEffects(patience, 'open the gate in PostgreSQL').provisionPostgres(fence),
      () => storeEffects(patience, 'database, collections, role and user in MongoDB').provisionMongo(fence),
      () => storeEffects(patience, 'marker and ACL user in Redis').provisionRedis(fence),
    ]);
    setCurrentDetails('Probing: the tenant reaches its own data, and another tenant does not.');
    await storeEffects(patience, 'probe as the tenant and as another').verifyTenant(fence);
    // A cancelled probe that succeeds all the same throws nothing, so a cancellation that came meanwhile is looked for here.
    if (CancellationScope.current().consideredCancelled)
      throw new CancelledFailure('cancelled while it was probed');
    // From here on a cancellation comes too late: half an activation could not be undone.
    await CancellationScope.nonCancellable(() => catalogueEffects(patience).activateTenant(fence));
    setCurrentDetails('Active.');
  } catch (failure) {
    const error = endedBy(failure);
    const status = await CancellationScope.nonCancellable(() => undoAll(error, fence, patience));
    // The catalogue decides: the activation was committed, and only its answer was lost.
    if (status === 'succeeded') return;
    throw isCancellation(error) ? error : failureOf(refusalOf(error));
  }
}

/** Newest first. */
const UNDO = [
  ['redis', 'undoRedis'],
  ['mongo', 'undoMongo'],
  ['postgres', 'undoPostgres'],
] as const;

/** Where one store's undo fails for good, the others are undone all the same; the ledger still lists what is left. */
async function undoAll(cause: unknown, fence: Fence, patience: Patience): Promise<Closed['status']> {
  const error = recordedError(cause);
  for (const [store, undo] of UNDO) {
    setCurrentDetails(`${error.code}: undoing in ${store}.`);
    try {
      await undoEffects(patience, `undo in ${store}`)[undo](fence);
    } catch (undoError) {
      const { code } = refusalOf(undoError);
      // The operation is over, or a later attempt of it runs: this run must undo nothing more.
      if (code === 'STALE_GENERATION') break;
      log.error('an undo failed and leaves residue', { store, code });
    }
  }
  const { status, residue } = await catalogueEffects(patience).closeOperation({
    ...fence,
    status: isCancellation(cause) ? 'cancelled' : 'failed',
    error,
  });
  if (status === 'succeeded') setCurrentDetails('Active.');
  else
    setCurrentDetails(
      residue.length === 0
        ? `${status}: ${error.code}. Undone in every store.`
        : `${status}: ${error.code}. RESIDUE: ${residue.map((r) => `${r.store} ${r.kind}`).join(', ')}.`,
    );
  return status;
}
