/** Activities that say as whom they run. */
import { setTimeout as pause } from 'node:timers/promises';
import { currentTenant } from '../../../tenancy/index.js';

export const probeActivities = {
  async whoAmI(): Promise<string> {
    return currentTenant().tenantId;
  },
  async waitAndSay(ms: number): Promise<string> {
    const before = currentTenant().tenantId;
    await pause(ms);
    return before === currentTenant().tenantId ? before : 'mixed up';
  },
};
export type ProbeActivities = typeof probeActivities;
