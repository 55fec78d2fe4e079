/** PostgreSQL: the tenant's gate over tables that are the cell's. */
import { readGates, setGates } from '../tenancy/postgres/gate.js';
import type { ActivityDependencies } from './dependencies.js';
import { removal } from './removal.js';
import { stepActivity, type StepContext, undoActivity } from './step.js';

export function postgresActivities(deps: ActivityDependencies) {
  const erase = ({ fence, connections }: StepContext) => removal(deps).postgres(connections, fence);
  return {
    provisionPostgres: stepActivity(deps, {
      name: 'postgres',
      stores: ['postgres'],
      leaves: 'created',
      revert: erase,
      async effect({ fence, connections }) {
        await setGates(connections.postgres.control, [fence], 'open');
        return { gate: 'open' };
      },
    }),

    undoPostgres: undoActivity(deps, {
      name: 'undo-postgres',
      stores: ['postgres'],
      async effect(context) {
        const erased = await erase(context);
        const { control } = context.connections.postgres;
        const left = (await readGates(control, [context.fence.tenantId])).size;
        const residue = context.begun.allocations
          .filter((allocation) => left > 0 && allocation.store === 'postgres')
          .map(({ store, kind, name }) => ({ store, kind, name, reason: 'the gate is still there' }));
        return { evidence: erased, residue };
      },
    }),
  };
}
