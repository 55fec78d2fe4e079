/** The catalogue's side of an operation: admitted, withdrawn, activated, closed. Quick, so run as local activities. */
import { asyncLocalStorage } from '@temporalio/activity';
import type { Lateness, TenantActivities } from '../domain/contracts.js';
import type { ActivityDependencies } from './dependencies.js';
import { inCatalogue } from './failure.js';

type LifecycleActivities = Pick<
  TenantActivities,
  'admitProvision' | 'withdrawAdmission' | 'activateTenant' | 'closeOperation'
>;

export function lifecycleActivities(deps: ActivityDependencies): LifecycleActivities {
  const { admission, steps } = deps.catalogue;
  return {
    async admitProvision({ operationId, attempt, admitBy }) {
      const admitting = admission.admitProvision(operationId, attempt, deps.blueprint, admitBy);
      const answer = await inCatalogue(deps, 'admit', admitting);
      return { ...answer, ...lateness() };
    },

    withdrawAdmission: ({ operationId, attempt }) =>
      inCatalogue(deps, 'withdraw', admission.withdraw(operationId, attempt)),

    activateTenant: (fence) => inCatalogue(deps, 'activate', steps.activate(fence)),

    closeOperation: ({ status, error, ...fence }) =>
      inCatalogue(deps, 'close', steps.close(fence, { status, error })),
  };
}

/** An admission takes milliseconds. No caller gives one up sooner than this. */
const LATE_MS = 1_000;

/** Whether the activity has taken long since the run first asked for it. If the clock was put back, it counts as late. */
export function lateness(): Lateness {
  const asked = asyncLocalStorage.getStore()?.info.scheduledTimestampMs;
  if (asked === undefined) return {};
  const took = Date.now() - asked;
  return took < 0 || took > LATE_MS ? { late: true } : {};
}
