/** Verification of one tenant: by probes in every store. */
import type { TenantActivities } from '../domain/contracts.js';
import type { ActivityDependencies } from './dependencies.js';
import { probeTenant } from './probe.js';
import { stepActivity } from './step.js';

export function verifyActivities(deps: ActivityDependencies): Pick<TenantActivities, 'verifyTenant'> {
  return {
    verifyTenant: stepActivity(deps, {
      name: 'verify',
      stores: ['postgres', 'mongo', 'redis'],
      leaves: 'verified',
      async effect({ fence, connections, password }) {
        const passwords = { mongo: password('mongo'), redis: password('redis') };
        return probeTenant(deps, { tenantId: fence.tenantId, connections, passwords });
      },
    }),
  };
}
