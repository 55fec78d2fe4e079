/**
 * A worker process that kills itself (SIGKILL: nothing is flushed, nothing said goodbye to) as soon as each run that
 * TENANTRY_TEST_CRASH names has come to its point. Until then those runs stand still there, so that all of them die in
 * the state that is theirs.
 */
import { writeSync } from 'node:fs';
import { main } from '../../worker/main.js';
import { type Reach, steppingIn } from './points.js';

export interface CrashPlan {
  /** Workflow id -> point, as in points.ts. */
  readonly points: Readonly<Record<string, string>>;
  readonly bundlePath: string;
}

export const CRASH_PLAN = 'TENANTRY_TEST_CRASH';

if (require.main === module) {
  const plan = JSON.parse(process.env[CRASH_PLAN] ?? '{}') as CrashPlan;
  const expected = new Map(Object.entries(plan.points));
  const reach: Reach = async (point, workflowId = '') => {
    if (plan.points[workflowId] !== point) return;
    expected.delete(workflowId);
    if (expected.size === 0) process.kill(process.pid, 'SIGKILL');
    writeSync(1, `still expected: ${[...expected.values()].join(', ')}\n`);
    await new Promise(() => undefined);
  };
  const { around, interceptors } = steppingIn(reach);
  main({
    around,
    options: {
      workflowBundle: { codePath: plan.bundlePath },
      interceptors,
      // The next worker must not wait long for this one to come back.
      stickyTimeout: 500,
    },
  }).catch((error: unknown) => {
    writeSync(2, `${String(error)}\n`);
    process.exitCode = 1;
  });
}
