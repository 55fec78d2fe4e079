/** From a valid request to its answer: written down, admitted, and, where the caller would rather wait, waited for. */
import type { Intake, IntakeResult } from '../catalogue/requests.js';
import { catalogueError } from '../catalogue/pool.js';
import { TenantryError } from '../domain/errors.js';
import { admit, type Reached } from './admit.js';
import { within } from './bounded.js';
import type { ApiDeps } from './deps.js';
import { idempotencyKey } from './documents.js';
import { refused } from './refusal.js';
import type { Answer, Call } from './route.js';
import type { Start } from './starts.js';
import { validate } from './validate.js';
import { operationPath, type OperationView, readOperation, tenantPath, viewOperation } from './views.js';
import { preferredWait, waitForRun } from './wait.js';

type AnyCall = Call<unknown, unknown, unknown>;

/** Answers a request that asks for something new. */
export async function begin(
  deps: ApiDeps,
  call: AnyCall,
  { intake, start }: { intake: Omit<Intake, 'admitWithin'>; start: (taken: IntakeResult) => Start },
): Promise<Answer> {
  const admitWithin = deps.config.TENANTRY_ADMISSION_TIMEOUT_MS;
  const taken = await deps.catalogue.requests.intake({ ...intake, admitWithin });
  if (taken.answered !== undefined && 'refused' in taken.answered) throw refused(taken.answered.refused);
  return carryOut(deps, call, start(taken), taken.answered === undefined ? undefined : 'admitted');
}

/**
 * 202 with the operation as it is once it is admitted. Where the caller waits and it ends well in time: 201 and the tenant's
 * address when it made one tenant, 200 otherwise.
 */
export async function carryOut(
  deps: ApiDeps,
  call: AnyCall,
  start: Start,
  already?: Reached,
): Promise<Answer> {
  const wait = preferredWait(call.header('Prefer'));
  if (wait !== undefined && wait > 0) await waitFor(wait * 1_000, deps, call, start, already);
  else if (already === undefined) await admit(deps, start, call.log);
  const operation = await readOrPromise(deps, call, start);
  const applied = wait === undefined ? {} : { 'Preference-Applied': `wait=${wait}` };
  const self = operationPath(operation.id);
  if (wait === undefined || operation.status !== 'succeeded')
    return { status: 202, headers: { ...applied, Location: self }, body: operation };
  if (operation.tenantId === null)
    return { status: 200, headers: { ...applied, 'Content-Location': self }, body: operation };
  const headers = { ...applied, Location: tenantPath(operation.tenantId), 'Content-Location': self };
  return { status: 201, headers, body: operation };
}

/** Admitted it is in any case. Its end is waited for until the time has passed, the client has gone or the process is closing. */
function waitFor(
  milliseconds: number,
  deps: ApiDeps,
  call: AnyCall,
  start: Start,
  already: Reached | undefined,
): Promise<void> {
  const gone = call.gone();
  return within(milliseconds, deps.closing ? [deps.closing] : [], async (enough) => {
    // A client that has gone hears no answer: the call that waits for both is left to come back by itself.
    const reached = already ?? (await admit(deps, start, call.log, enough));
    if (reached === 'ended') return;
    await within(milliseconds, [enough, gone], (signal) =>
      waitForRun(deps, start.workflowId, milliseconds, signal, call.log),
    );
  });
}

/** The operation is admitted and will run, so a catalogue that has just gone away must not turn that into a 503. */
async function readOrPromise({ catalogue }: ApiDeps, call: AnyCall, start: Start): Promise<OperationView> {
  try {
    return await readOperation(catalogue, start.operationId);
  } catch (error) {
    const known = catalogueError(error);
    if (!(known instanceof TenantryError) || known.code !== 'CATALOGUE_UNAVAILABLE') throw error;
    call.log.warn(
      { err: error, operationId: start.operationId },
      'admitted, but the catalogue cannot be read',
    );
    const { operationId: id, kind, tenantId = null, attempt } = start;
    const now = {
      status: 'running',
      error: null,
      residue: [],
      startedAt: new Date(),
      finishedAt: null,
    } as const;
    return viewOperation({ id, kind, tenantId, attempt, ...now }, []);
  }
}

/** @throws ValidationError naming the header */
export function readKey(call: AnyCall): string | undefined {
  return validate(idempotencyKey.optional(), call.header('Idempotency-Key'), 'Idempotency-Key');
}
