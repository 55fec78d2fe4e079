/** A product's own workflow: the weekly digest of a tenant. It knows nothing of tenants; its activities run as the right one. */
import {
  continueAsNew,
  executeChild,
  proxyActivities,
  proxyLocalActivities,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { Activities } from './activities.js';

const { countTickets, sendDigest } = proxyActivities<Activities>({ startToCloseTimeout: '10s' });
const { nameDigest } = proxyLocalActivities<Activities>({ startToCloseTimeout: '10s' });

export interface Digest {
  readonly title: string;
  readonly tickets: string;
  readonly sent: string;
}

/** @param weeks how many are left; each is a run of its own */
export async function weeklyDigest(
  weeks: number,
  pause: number,
  before: readonly Digest[] = [],
): Promise<Digest[]> {
  const title = await nameDigest();
  const tickets = await executeChild(gatherTickets, {
    workflowId: `${workflowInfo().workflowId}/tickets/${weeks}`,
  });
  const digests = [...before, { title, tickets, sent: await sendDigest() }];
  if (weeks <= 1) return digests;
  await sleep(pause);
  return continueAsNew<typeof weeklyDigest>(weeks - 1, pause, digests);
}

export async function gatherTickets(): Promise<string> {
  return countTickets();
}
