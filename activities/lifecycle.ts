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

/** An admission takes milliseconds, and no caller gives one up that soon. */
const LATE_MS = 1_000;

/** Since the run asked for it the first time. Where the clock was put back, nobody knows for how long. */
export function lateness(): Lateness {
  const asked = asyncLocalStorage.getStore()?.info.scheduledTimestampMs;
  if (asked === undefined) return {};
  const took = Date.now() - asked;
  return took < 0 || took > LATE_MS ? { late: true } : {};
}
