/**
 * The texts in Temporal's headers: how each is signed and what it is worth to whom.
 *
 * A run's has no expiry, since a workflow may last for years; it is bound to one workflow's id and type in one namespace
 * instead, and the chain of runs must have begun soon after it was signed. So a copy is refused in another workflow, and
 * in a later workflow under the same id. A schedule's is bound to the id that its runs' are made from.
 */
import { type Claims, claimsOf, CLOCK_SKEW, refused, type Signer } from '../context/snapshot.js';
import type { TenantContext } from '../context/tenant-context.js';
import { refuseOtherThanPositive } from '../positive.js';

export interface PassOptions {
  readonly namespace: string;
  /** A workflow must begin within this time after it was asked for. Milliseconds; ten minutes by default. */
  readonly startWithinMs?: number;
  /** A signal or update is taken for as long. Milliseconds; an hour by default. */
  readonly messageTtlMs?: number;
}

export type Passes = ReturnType<typeof createPasses>;

const RUN = 'temporal:run';
const MESSAGE = 'temporal:message';

/** As Temporal names the runs of a schedule. */
const SCHEDULED = /^(.+)-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/s;

export function createPasses(signer: Signer, options: PassOptions) {
  const { namespace, startWithinMs = 600_000, messageTtlMs = 3_600_000 } = options;
  refuseOtherThanPositive('startWithinMs', startWithinMs);
  refuseOtherThanPositive('messageTtlMs', messageTtlMs);
  const bound = (...parts: string[]): string => JSON.stringify([namespace, ...parts]);
  /** Claims of a context, or those of a verified run, signed anew. */
  const fresh = (claims: Omit<Claims, 'issuedAt'>): Claims => ({ ...claims, issuedAt: Date.now() });
  const run = (claims: Omit<Claims, 'issuedAt'>, workflowId: string, workflowType: string): string =>
    signer.sign(RUN, fresh({ ...claims, boundTo: bound('workflow', workflowId, workflowType) }));
  const message = (claims: Omit<Claims, 'issuedAt'>, workflowId: string): string =>
    signer.sign(MESSAGE, {
      ...fresh({ ...claims, boundTo: bound('message', workflowId) }),
      expiresAt: Date.now() + messageTtlMs,
    });

  return {
    forWorkflow: (context: TenantContext, id: string, type: string): string =>
      run(claimsOf(context), id, type),
    forMessage: (context: TenantContext, id: string): string => message(claimsOf(context), id),
    forSchedule: (context: TenantContext, id: string, type: string): string =>
      signer.sign(RUN, fresh({ ...claimsOf(context), boundTo: bound('schedule', id, type) })),

    /** For what a verified run sets off: the same tenant, bound to something else. */
    deriveRun: run,
    deriveMessage: message,

    /** @throws TenantryError CONTEXT_REFUSED unless it was signed for this very workflow */
    verifyRun(text: string | undefined, workflowId: string, workflowType: string): Claims {
      if (text === undefined) throw refused('there is none');
      const claims = signer.verify(RUN, text);
      const base = SCHEDULED.exec(workflowId)?.[1];
      if (
        claims.boundTo !== bound('workflow', workflowId, workflowType) &&
        (base === undefined || claims.boundTo !== bound('schedule', base, workflowType))
      )
        throw refused('it is another workflow’s');
      return claims;
    },

    /** @throws TenantryError CONTEXT_REFUSED when the workflow began long after it was signed */
    checkStart(claims: Claims, startedAt: number): void {
      const isSchedules = claims.boundTo?.startsWith(bound('schedule').slice(0, -1)) === true;
      if (!isSchedules && startedAt - claims.issuedAt > startWithinMs + CLOCK_SKEW)
        throw refused('it was signed long before the workflow began');
    },

    /** @throws TenantryError CONTEXT_REFUSED unless it comes from the run's own tenant and is for this workflow */
    checkMessage(text: string | undefined, workflowId: string, run_: Claims): void {
      if (text === undefined) throw refused('there is none');
      const claims = signer.verify(MESSAGE, text);
      if (claims.boundTo !== bound('message', workflowId)) throw refused('it is for another workflow');
      if (claims.tenant !== run_.tenant) throw refused('it is another tenant’s');
    },
  };
}
