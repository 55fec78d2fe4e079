/** An attempt at a step that stands at a point, while everybody else goes on as if it were dead. */
import { MongoNetworkError } from 'mongodb';
import { createActivities } from '../../../activities/index.js';
import type { Activities } from '../../../domain/contracts.js';
import { createHolds } from '../../support/holds.js';
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
