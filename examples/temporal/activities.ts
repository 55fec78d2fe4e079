/** Activities of the product: each runs as the tenant that its workflow is for. */
import { currentTenant } from '../../tenancy/index.js'; // In a product: from 'tenantry'.

export const activities = {
  async nameDigest(): Promise<string> {
    return `Digest of ${currentTenant().slug}`;
  },
  async countTickets(): Promise<string> {
    // Here the product would ask `currentTenant().pg`, which reaches this tenant's rows alone.
    return currentTenant().tenantId;
  },
  async sendDigest(): Promise<string> {
    return currentTenant().tenantId;
  },
};
export type Activities = typeof activities;
