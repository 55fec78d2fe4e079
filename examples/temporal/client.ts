/** The product's client: what it starts from within a tenant is that tenant's. */
import { Client, type Connection } from '@temporalio/client';
import type { Tenantry } from '../../tenancy/index.js';
import { temporalTenancy } from '../../tenancy/temporal/index.js';
import { weeklyDigest, type Digest } from './workflows.js';

export function createDigestClient(tenantry: Tenantry, connection: Connection, namespace: string): Client {
  return new Client({ connection, namespace, interceptors: temporalTenancy(tenantry, { namespace }).client });
}

export function digestFor(
  tenantry: Tenantry,
  client: Client,
  slug: string,
  options: { taskQueue: string; weeks: number; pause: number },
): Promise<Digest[]> {
  return tenantry.runWithTenant(slug, (tenant) =>
    client.workflow.execute(weeklyDigest, {
      taskQueue: options.taskQueue,
      workflowId: `digest/${tenant.tenantId}`,
      args: [options.weeks, options.pause],
    }),
  );
}
