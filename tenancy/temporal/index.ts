/**
 * `tenantry/temporal`: a product's own workflows in the data plane. The client signs who a workflow is for, the workflow
 * carries it on unread, and every activity verifies it and runs as that tenant, as that tenant is then.
 */
import { ApplicationFailure } from '@temporalio/common';
import type { ClientInterceptors } from '@temporalio/client';
import type { ActivityInterceptorsFactory, WorkerInterceptors } from '@temporalio/worker';
import { activityInfo } from '@temporalio/activity';
import { type ErrorCode, TenantryError } from '../../domain/errors.js';
import { refused } from '../context/snapshot.js';
import type { Tenantry } from '../data-plane.js';
import { clientInterceptors } from './client.js';
import {
  ADMIT,
  type AdmitInput,
  CHECK_MESSAGE,
  type CheckMessageInput,
  CONTEXT_HEADER,
  DERIVE,
  type DeriveInput,
  type OwnActivities,
  textIn,
} from './header.js';
import { createPasses, type Passes, type PassOptions } from './passes.js';

export interface TemporalTenancyOptions extends PassOptions {
  /** Types of activities that run for no tenant. */
  readonly withoutTenant?: readonly string[];
}

export interface TemporalTenancy {
  /** For `new Client({interceptors})`. */
  readonly client: ClientInterceptors & Required<Pick<ClientInterceptors, 'workflow' | 'schedule'>>;
  /** For `Worker.create({interceptors})`; with a bundle built ahead, give `workflowModules` to its building. */
  readonly worker: Required<Pick<WorkerInterceptors, 'client' | 'activity' | 'workflowModules'>>;
  /** To be registered with the worker beside the product's own. */
  readonly activities: OwnActivities;
}

export const workflowModules: string[] = [require.resolve('./workflow')];

export function temporalTenancy({ handingOn }: Tenantry, options: TemporalTenancyOptions): TemporalTenancy {
  const passes = createPasses(handingOn.signer, options);
  const client = clientInterceptors(passes);
  return {
    client,
    worker: {
      client,
      activity: [activityInterceptor(handingOn, passes, new Set(options.withoutTenant))],
      workflowModules,
    },
    activities: { [ADMIT]: missing, [DERIVE]: missing, [CHECK_MESSAGE]: missing },
  };
}

/** What no trying again mends. The others pass: a suspension ends, a catalogue comes back, within the activity's patience. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  'CONTEXT_REFUSED',
  'TENANT_GONE',
  'TENANT_NOT_FOUND',
  'NESTED_TENANT_CONTEXT',
]);

function activityInterceptor(
  handingOn: Tenantry['handingOn'],
  passes: Passes,
  withoutTenant: ReadonlySet<string>,
): ActivityInterceptorsFactory {
  return () => ({
    inbound: {
      async execute(input, next) {
        const { activityType, workflowExecution, workflowType = '' } = activityInfo();
        if (withoutTenant.has(activityType)) return next(input);
        const workflowId = workflowExecution?.workflowId ?? '';
        let entered = false;
        try {
          const claims = passes.verifyRun(textIn(input.headers, CONTEXT_HEADER), workflowId, workflowType);
          const answer = ownActivity(passes, claims, activityType, workflowId, input.args[0]);
          if (answer !== undefined) return answer.value;
          return await handingOn.enter(claims, () => {
            entered = true;
            return next(input);
          });
        } catch (error) {
          // What the activity itself throws is the product's.
          if (entered || !(error instanceof TenantryError)) throw error;
          throw ApplicationFailure.create({
            type: error.code,
            message: error.message,
            nonRetryable: FINAL.has(error.code),
            details: [error.params],
          });
        }
      },
    },
  });
}

function ownActivity(
  passes: Passes,
  claims: ReturnType<Passes['verifyRun']>,
  activityType: string,
  workflowId: string,
  // From our own interceptor in the workflow.
  input: unknown,
): { value: unknown } | undefined {
  switch (activityType) {
    case ADMIT:
      return { value: passes.checkStart(claims, (input as AdmitInput).startedAt) };
    case DERIVE: {
      const wanted = input as DeriveInput;
      return {
        value:
          wanted.kind === 'message'
            ? passes.deriveMessage(claims, wanted.workflowId)
            : passes.deriveRun(claims, wanted.workflowId, wanted.workflowType),
      };
    }
    case CHECK_MESSAGE: {
      const { text, objection, isTakenOver = false } = input as CheckMessageInput;
      passes.checkMessage(text, workflowId, claims);
      if (isTakenOver) throw refused('the worker that accepted it is gone: it is to be sent again');
      if (objection !== undefined)
        throw ApplicationFailure.nonRetryable(
          objection.message,
          objection.type,
          ...(objection.details ?? []),
        );
      return { value: undefined };
    }
    default:
      return undefined;
  }
}

/** The interceptor answers in its place. */
async function missing(): Promise<never> {
  throw ApplicationFailure.nonRetryable('The worker has no tenancy interceptors.', 'CONTEXT_REFUSED');
}
