/**
 * A worker process that kills itself (SIGKILL: nothing is flushed, nothing said goodbye to) as soon as each run that
 * TENANTRY_TEST_CRASH names has come to its point. Until then those runs stand still there, so that all of them die in
 * the state that is theirs.
 */
import { writeSync } from 'node:fs';
import { main } from '../../worker/main.js';
import { signal } from './holds.js';
import { type Reach, steppingIn } from './points.js';

export interface CrashPlan {
  /** Workflow id -> point, as in points.ts. */
  readonly points: Readonly<Record<string, string>>;
  readonly bundlePath: string;
  /** Stopped (SIGSTOP) in the place of killed: once it is told to, it goes on where it was. */
  readonly stops?: boolean;
}

/** What it says just before it stops. */
export const STOPPING = 'all are at their points';

export const CRASH_PLAN = 'TENANTRY_TEST_CRASH';

if (require.main === module) {
  const plan = JSON.parse(process.env[CRASH_PLAN] ?? '{}') as CrashPlan;
  const goOn = signal();
  let wasStopped = false;
  const expected = new Map(Object.entries(plan.points));
  const reach: Reach = async (point, workflowId = '') => {
    if (plan.points[workflowId] !== point || wasStopped) return;
    expected.delete(workflowId);
    if (expected.size > 0) writeSync(1, `still expected: ${[...expected.values()].join(', ')}\n`);
    else if (plan.stops) {
      writeSync(1, `${STOPPING}\n`);
      wasStopped = true;
      process.kill(process.pid, 'SIGSTOP');
      goOn.give();
    } else process.kill(process.pid, 'SIGKILL');
    await goOn.given;
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
