/**
 * Workflow interceptors, for the bundle: they pass the run's context on to all that the workflow sets off.
 *
 * The sandbox must be deterministic and holds no key, so nothing is verified in it: a local activity does that, once at a
 * run's start, and its result is in the history. The workflow's function begins meanwhile, so that the handlers which it sets
 * are there for an update that comes with the start; but no activity, child or signal of it goes out before the run is
 * admitted. Every activity verifies again what it is given. A text is bound to one workflow's id, so for a child a local
 * activity signs a new one, of the same tenant.
 *
 * An update's validator must answer at once, when no activity can have said who sent it, and what it says goes to the
 * sender. So what it says is kept, the update is accepted, and the local activity that checks the sender tells it: a
 * replay finds both in the history, where a validator is not asked again.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  type Headers,
  log,
  patched,
  proxyLocalActivities,
  workflowInfo,
  type WorkflowInterceptors,
} from '@temporalio/workflow';
import {
  ADMIT,
  CHECK_MESSAGE,
  type CheckMessageInput,
  CONTEXT_HEADER,
  DERIVE,
  MESSAGE_HEADER,
  type Objection,
  type OwnActivities,
  textIn,
  withText,
} from './header.js';

export interface WorkflowTenancyOptions {
  /** Types of workflows that run for no tenant. */
  readonly withoutTenant?: readonly string[];
  /**
   * Whether signals and updates must be signed too: `signed` by default. What an update's validator refuses is then refused
   * after it was accepted, and is in the history. A query reaches no store and is not asked.
   */
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
  const objections = new Map<string, Objection>();
  const admission = awaited();
  const carried = (headers: Headers): Headers =>
    text === undefined ? headers : withText(headers, CONTEXT_HEADER, text);
  /** Also in a scope that was cancelled: that is for what comes after to notice. */
  const inOwn = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await CancellationScope.nonCancellable(work);
    } catch (error) {
      const cause = error instanceof ActivityFailure ? error.cause : undefined;
      throw cause instanceof ApplicationFailure
        ? ApplicationFailure.nonRetryable(cause.message, cause.type, ...(cause.details ?? []))
        : error;
    }
  };
  const isAnybodys = (): boolean =>
    messages === 'any' || (text === undefined && withoutTenant.includes(workflowInfo().workflowType));
  const check = async (headers: Headers, update: Omit<CheckMessageInput, 'text'> = {}): Promise<void> => {
    await admission.end;
    if (isAnybodys()) return;
    if (text === undefined) throw startedByNobody();
    await inOwn(() => own[CHECK_MESSAGE]({ ...update, text: textIn(headers, MESSAGE_HEADER) }));
  };
  return {
    inbound: [
      {
        async execute(input, next) {
          text = textIn(input.headers, CONTEXT_HEADER);
          if (text === undefined) {
            admission.succeed();
            if (!withoutTenant.includes(workflowInfo().workflowType)) throw startedByNobody();
            return next(input);
          }
          const beginsAtOnce = patched('the-function-begins-before-its-run-is-admitted');
          const admitted = inOwn(() => own[ADMIT]({ startedAt: workflowInfo().startTime.getTime() }));
          if (!beginsAtOnce) {
            admission.succeed();
            await admitted;
            return next(input);
          }
          const result = next(input);
          // It may fail before it is waited for.
          result.catch(() => undefined);
          await admitted.then(admission.succeed, (error: unknown) => {
            admission.fail(error);
            throw error;
          });
          return result;
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
        validateUpdate(input, next) {
          if (isAnybodys()) return next(input);
          if (textIn(input.headers, MESSAGE_HEADER) === undefined)
            throw ApplicationFailure.nonRetryable('The update says no tenant.', 'CONTEXT_REFUSED');
          try {
            next(input);
          } catch (error) {
            objections.set(input.updateId, objectionOf(error));
          }
        },
        async handleUpdate(input, next) {
          const objection = objections.get(input.updateId);
          objections.delete(input.updateId);
          // Replayed, what is given here is not looked at, unless a worker died before the answer was in the history.
          const isTakenOver = workflowInfo().unsafe.isReplaying;
          await check(input.headers, { objection, isTakenOver });
          return next(input);
        },
      },
    ],
    outbound: [
      {
        scheduleActivity: (input, next) =>
          admission.before(() => next({ ...input, headers: carried(input.headers) })),
        scheduleLocalActivity: (input, next) => {
          const schedule = () => next({ ...input, headers: carried(input.headers) });
          return input.activityType === ADMIT ? schedule() : admission.before(schedule);
        },
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

/** What is waited for until it has come about; from then on it costs no turn, so that commands keep their order. */
function awaited() {
  let isOver = false;
  let resolve = (): void => undefined;
  let fail = (_error: unknown): void => undefined;
  const end = new Promise<void>((succeeded, failed) => {
    resolve = succeeded;
    fail = failed;
  });
  end.catch(() => undefined);
  return {
    end,
    fail,
    succeed: (): void => {
      isOver = true;
      resolve();
    },
    before: <T>(work: () => Promise<T>): Promise<T> => (isOver ? work() : end.then(work)),
  };
}

function objectionOf(error: unknown): Objection {
  if (error instanceof ApplicationFailure) {
    const { message, type, details } = error;
    return { message, type: type ?? undefined, details: details ?? undefined };
  }
  return error instanceof Error ? { message: error.message, type: error.name } : { message: String(error) };
}

const startedByNobody = (): ApplicationFailure =>
  ApplicationFailure.nonRetryable('The workflow was started without a tenant.', 'CONTEXT_REFUSED');

/** The interceptors as they are by default, for `workflowModules`. */
export const interceptors = (): WorkflowInterceptors => workflowTenancy();
