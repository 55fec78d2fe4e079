/** MongoDB: the tenant's database with its collections, role and user. */
import type { Residue } from '../domain/operation.js';
import { ensureTenantDatabase, tenantAccess } from '../tenancy/mongo/tenant-database.js';
import type { ActivityDependencies } from './dependencies.js';
import { removal } from './removal.js';
import { stepActivity, type StepContext, undoActivity } from './step.js';

export function mongoActivities(deps: ActivityDependencies) {
  const { layouts } = deps;
  const drop = ({ fence, connections }: StepContext) => removal(deps).mongo(connections, fence);
  return {
    provisionMongo: stepActivity(deps, {
      name: 'mongo',
      stores: ['mongo'],
      leaves: 'created',
      revert: drop,
      async effect(context) {
        const { fence, connections } = context;
        const password = context.password('mongo');
        await ensureTenantDatabase(connections.mongo, { tenantId: fence.tenantId, layouts }, password, () =>
          deps.warmClients.warmUp(connections.mongoUrl, fence.tenantId, password),
        );
        return { collections: layouts.map((layout) => layout.name) };
      },
    }),

    undoMongo: undoActivity(deps, {
      name: 'undo-mongo',
      stores: ['mongo'],
      async effect(context) {
        const { left, foreign } = await drop(context);
        const access = await tenantAccess(context.connections.mongo, context.fence.tenantId);
        const isLeft = (kind: string, name: string): boolean =>
          (kind === 'role' && access.role) ||
          (kind === 'user' && access.user) ||
          (kind === 'database' && left.length > 0) ||
          (kind === 'collection' && left.some((collection) => name.endsWith(`.${collection}`)));
        const residue: Residue[] = context.begun.allocations
          .filter(({ store, kind, name }) => store === 'mongo' && isLeft(kind, name))
          .map(({ store, kind, name }) => ({
            store,
            kind,
            name,
            reason: 'still there after it was dropped',
          }));
        return { evidence: { foreignCollectionsKept: foreign.length }, residue };
      },
    }),
  };
}
