/** Redis: the marker that claims the tenant's namespace, and its ACL user. */
import { TenantryError } from '../domain/errors.js';
import type { Residue } from '../domain/operation.js';
import { ensureNamespaces, namespacePresent } from '../tenancy/redis/namespace.js';
import type { ActivityDependencies } from './dependencies.js';
import { removal } from './removal.js';
import { stepActivity, type StepContext, undoActivity } from './step.js';

export function redisActivities(deps: ActivityDependencies) {
  const drop = ({ fence, connections }: StepContext) => removal(deps).redis(connections, fence);
  return {
    provisionRedis: stepActivity(deps, {
      name: 'redis',
      stores: ['redis'],
      leaves: 'created',
      revert: drop,
      async effect(context) {
        const { fence, connections } = context;
        const namespace = { tenantId: fence.tenantId, password: context.password('redis') };
        const foreign = await ensureNamespaces(connections.redis, [namespace]);
        if (foreign.length > 0) throw new TenantryError('NAME_TAKEN', { kind: 'namespace', store: 'Redis' });
        return { namespaces: Object.keys(deps.manifest.redis.namespaces) };
      },
    }),

    undoRedis: undoActivity(deps, {
      name: 'undo-redis',
      stores: ['redis'],
      async effect(context) {
        const dropped = await drop(context);
        const present = await namespacePresent(context.connections.redis, context.fence.tenantId);
        const residue: Residue[] = context.begun.allocations
          .filter(
            ({ store, kind }) => store === 'redis' && (kind === 'marker' ? present.marker : present.user),
          )
          .map(({ store, kind, name }) => ({
            store,
            kind,
            name,
            reason: 'still there after it was removed',
          }));
        return { evidence: dropped, residue };
      },
    }),
  };
}
