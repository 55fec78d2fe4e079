/** The catalogue's side of an operation: admitted, withdrawn, activated, closed. Quick, so run as local activities. */
import { catalogueError } from '../catalogue/pool.js';
import type { TenantActivities } from '../domain/contracts.js';
import type { ActivityDependencies } from './dependencies.js';
import { toApplicationFailure } from './failure.js';

type LifecycleActivities = Pick<
  TenantActivities,
  'admitProvision' | 'withdrawAdmission' | 'activateTenant' | 'closeOperation'
>;

export function lifecycleActivities(deps: ActivityDependencies): LifecycleActivities {
  const { admission, steps } = deps.catalogue;
  const quick = async <T>(name: string, work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw toApplicationFailure(catalogueError(error), deps.log, name);
    });
  return {
    admitProvision: ({ operationId, attempt }) =>
      quick('admit', admission.admitProvision(operationId, attempt, deps.blueprint)),

    withdrawAdmission: ({ operationId, attempt }) =>
      quick('withdraw', admission.withdraw(operationId, attempt)),

    activateTenant: (fence) => quick('activate', steps.activate(fence)),

    closeOperation: ({ status, error, ...fence }) => quick('close', steps.close(fence, { status, error })),
  };
}
