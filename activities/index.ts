/** The door of the activities: everything that the workflows may call. */
import type { Activities } from '../domain/contracts.js';
import type { ActivityDependencies } from './dependencies.js';
import { batchLifecycleActivities } from './batch/lifecycle.js';
import { batchProvisionActivities } from './batch/provision.js';
import { batchVerifyActivities } from './batch/verify.js';
import { isolationProbeActivities } from './isolation-probe.js';
import { lifecycleActivities } from './lifecycle.js';
import { mongoActivities } from './mongo.js';
import { postgresActivities } from './postgres.js';
import { redisActivities } from './redis.js';
import { verifyActivities } from './verify.js';

export function createActivities(deps: ActivityDependencies): Activities {
  return {
    ...lifecycleActivities(deps),
    ...postgresActivities(deps),
    ...mongoActivities(deps),
    ...redisActivities(deps),
    ...verifyActivities(deps),
    ...batchLifecycleActivities(deps),
    ...batchProvisionActivities(deps),
    ...batchVerifyActivities(deps),
    ...isolationProbeActivities(deps),
  };
}
