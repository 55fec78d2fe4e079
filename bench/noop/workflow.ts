/** What Temporal itself costs: a workflow of the shape of provisioning whose activities do nothing. */
import {
  condition,
  defineUpdate,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
} from '@temporalio/workflow';
import { ADMIT } from '../../domain/contracts.js';
import type { NoopActivities } from './activities.js';

const activities = proxyActivities<NoopActivities>({
  startToCloseTimeout: '30s',
  scheduleToCloseTimeout: '1h',
});
const local = proxyLocalActivities<NoopActivities>({
  startToCloseTimeout: '30s',
  scheduleToCloseTimeout: '1h',
});
const admit = defineUpdate<string>(ADMIT);

export async function noop(): Promise<void> {
  let admitted = false;
  setHandler(admit, async () => {
    await condition(() => admitted);
    return 'admitted';
  });
  await local.nothing('admit');
  admitted = true;
  await Promise.all([
    activities.nothing('postgres'),
    activities.nothing('mongo'),
    activities.nothing('redis'),
  ]);
  await activities.nothing('verify');
  await local.nothing('activate');
}
