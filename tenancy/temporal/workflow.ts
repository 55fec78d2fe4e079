/**
 * Workflow interceptors, for the bundle: they pass the run's context on to all that the workflow sets off.
 *
 * The sandbox must be deterministic and holds no key, so nothing is verified in it: a local activity does that, once at a
 * run's start before any code of the workflow, and its result is in the history. Every activity verifies again what it
 * is given. A text is bound to one workflow's id, so for a child a local activity signs a new one, of the same tenant.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  type Headers,
  log,
  proxyLocalActivities,
  workflowInfo,
  type WorkflowInterceptors,
} from '@temporalio/workflow';
import {
  ADMIT,
  CHECK_MESSAGE,
  CONTEXT_HEADER,
  DERIVE,
  MESSAGE_HEADER,
  type OwnActivities,
  textIn,
  withText,
} from './header.js';

export interface WorkflowTenancyOptions {
  /** Types of workflows that run for no tenant. */
  readonly withoutTenant?: readonly string[];
  /** Whether signals and updates must be signed too: `signed` by default. A query reaches no store and is not asked. */
  readonly messages?: 'signed' | 'any';
}

// Computing alone: no store is asked. A worker that dies in the middle is followed by another at once.
const own = proxyLocalActivities<OwnActivities>({
  startToCloseTimeout: '5s',
  retry: { initialInterval: '100ms' },
});

export function workflowTenancy(options: WorkflowTenancyOptions = {}): WorkflowInterceptors {
  const { withoutTenant = [], messages = 'signed' } = options;
  let text: string | undefined;
  let lastSignal = Promise.resolve(true);
  let begin = (): void => undefined;
  // Whoever handles signals or updates before the workflow's function has begun (a handler of the module) waits for it:
  // until then it is not known whose run this is.
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const carried = (headers: Headers): Headers =>
    text === undefined ? headers : withText(headers, CONTEXT_HEADER, text);
  /** Also in a scope that was cancelled: that is for what comes after to notice. */
  const inOwn = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await CancellationScope.nonCancellable(work);
    } catch (error) {
      const cause = error instanceof ActivityFailure ? error.cause : undefined;
      throw cause instanceof ApplicationFailure
        ? ApplicationFailure.nonRetryable(cause.message, cause.type)
        : error;
    }
  };
  const check = async (headers: Headers): Promise<void> => {
    await begun;
    if (text === undefined || messages === 'any') return;
    await inOwn(() => own[CHECK_MESSAGE]({ text: textIn(headers, MESSAGE_HEADER) }));
  };
  return {
    inbound: [
      {
        async execute(input, next) {
          text = textIn(input.headers, CONTEXT_HEADER);
          begin();
          if (text !== undefined)
            await inOwn(() => own[ADMIT]({ startedAt: workflowInfo().startTime.getTime() }));
          else if (!withoutTenant.includes(workflowInfo().workflowType))
            throw ApplicationFailure.nonRetryable(
              'The workflow was started without a tenant.',
              'CONTEXT_REFUSED',
            );
          return next(input);
        },
        async handleSignal(input, next) {
          // One after the other: they are handled in the order in which they came.
          lastSignal = lastSignal.then(() =>
            check(input.headers).then(
              () => true,
              (error: unknown) => {
                log.warn('a signal is dropped', { signal: input.signalName, reason: String(error) });
                return false;
              },
            ),
          );
          if (await lastSignal) await next(input);
        },
        async handleUpdate(input, next) {
          await check(input.headers);
          return next(input);
        },
      },
    ],
    outbound: [
      {
        scheduleActivity: (input, next) => next({ ...input, headers: carried(input.headers) }),
        scheduleLocalActivity: (input, next) => next({ ...input, headers: carried(input.headers) }),
        async startChildWorkflowExecution(input, next) {
          if (text === undefined) return next(input);
          const {
            workflowType,
            options: { workflowId },
          } = input;
          const childs = await inOwn(() => own[DERIVE]({ kind: 'workflow', workflowId, workflowType }));
          return next({ ...input, headers: withText(input.headers, CONTEXT_HEADER, childs) });
        },
        async signalWorkflow(input, next) {
          if (text === undefined) return next(input);
          const { target } = input;
          const workflowId =
            target.type === 'child' ? target.childWorkflowId : (target.workflowExecution.workflowId ?? '');
          const message = await inOwn(() => own[DERIVE]({ kind: 'message', workflowId }));
          return next({ ...input, headers: withText(input.headers, MESSAGE_HEADER, message) });
        },
        async continueAsNew(input, next) {
          if (text === undefined) return next(input);
          const { workflowId } = workflowInfo();
          const { workflowType } = input.options;
          // Signed anew, for it may go on as another type, and so that no key must be kept as long as a workflow goes on.
          const later = await inOwn(() => own[DERIVE]({ kind: 'workflow', workflowId, workflowType }));
          return next({ ...input, headers: withText(input.headers, CONTEXT_HEADER, later) });
        },
      },
    ],
  };
}

/** The interceptors as they are by default, for `workflowModules`. */
export const interceptors = (): WorkflowInterceptors => workflowTenancy();
