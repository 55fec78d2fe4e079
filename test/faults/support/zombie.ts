/** An attempt at a step that stands at a point, while everybody else goes on as if it were dead. */
import { MongoNetworkError } from 'mongodb';
import { createActivities } from '../../../activities/index.js';
import { withClient } from '../../../catalogue/bootstrap.js';
import type { Activities, Fence } from '../../../domain/contracts.js';
import { createHolds } from '../../support/holds.js';
import { untilWaiting } from '../../support/locks.js';
import { atPoints } from '../../support/points.js';
import type { World } from '../../support/world.js';

export interface Zombie {
  /** What it ends with, or the error. */
  readonly result: Promise<unknown>;
  release(): void;
}

/** Where it fails once it goes on. */
export interface Cut {
  readonly at: string;
  /** MongoDB's connection is cut by default. */
  readonly by?: Error;
}

/** The attempt, when it has come to the point. */
export async function stuckAt(
  world: World,
  point: string,
  attempt: (activities: Activities) => Promise<unknown>,
  cut?: Cut,
): Promise<Zombie> {
  const { activities, holds } = holding(world, cut);
  const hold = holds.at(point);
  const result = settled(attempt(activities));
  await hold.reached;
  return { result, release: () => hold.release() };
}

type Step = 'provisionPostgres' | 'provisionMongo' | 'provisionRedis' | 'verifyTenant' | `undo${string}`;

/** The step of one tenant, standing at the point. */
export const stuck = (world: World, step: Step, point: string, fence: Fence, cut?: Cut): Promise<Zombie> =>
  stuckAt(world, point, (activities) => activities[step as 'provisionMongo'](fence), cut);

export async function expectOvertaken({ release, result }: Zombie): Promise<void> {
  release();
  // Whatever it stumbles over, Temporal is not to try it again.
  expect(await result).toMatchObject({ nonRetryable: true });
}

/** Activities of their own, which can be held at points. */
export function holding(world: World, cut?: Cut) {
  const holds = createHolds();
  const dependencies = atPoints(world.dependencies, async (point, workflowId) => {
    await holds.reach(point, workflowId);
    if (point === cut?.at) throw cut.by ?? new MongoNetworkError('connection 7 to the server closed');
  });
  return { holds, activities: createActivities(dependencies) };
}

export const settled = (work: Promise<unknown>): Promise<unknown> => work.catch((error: unknown) => error);

/** The row that whoever writes under an operation has to hold, for `whileLocked`. */
export const rowOf = ({ operationId }: Pick<Fence, 'operationId'>) => ({
  text: 'SELECT FROM operation WHERE id = $1 FOR UPDATE',
  values: [operationId],
});

/** Comes back when so many statements on the catalogue wait for a lock. */
export const waitingNow = (world: World, count: number) =>
  withClient(world.url('control'), (client) => untilWaiting(client, count));
