/** Holds runs at points, so that a test decides what happens before they go on. */
import { steppingIn } from './points.js';

export interface Hold {
  /** Resolves when a run has come to the point. */
  readonly reached: Promise<void>;
  /** The run goes on; so does every later one that comes to the point, unless another hold was put there. */
  release(): void;
}

/** `stepIn` is for `startWorker`. */
export function createHolds() {
  const holds = new Map<string, { arrive: () => void; released: Promise<void> }>();
  const key = (point: string, workflowId: string | undefined): string => `${workflowId ?? ''} ${point}`;
  const reach = async (point: string, workflowId: string | undefined): Promise<void> => {
    const hold = holds.get(key(point, workflowId)) ?? holds.get(key(point, undefined));
    hold?.arrive();
    await hold?.released;
  };
  return {
    reach,
    stepIn: steppingIn(reach),
    /** @param workflowId one run only; whichever comes by default */
    at(point: string, workflowId?: string): Hold {
      const arrival = signal();
      const departure = signal();
      const hold = { arrive: arrival.give, released: departure.given };
      holds.set(key(point, workflowId), hold);
      return {
        reached: arrival.given,
        release() {
          if (holds.get(key(point, workflowId)) === hold) holds.delete(key(point, workflowId));
          departure.give();
        },
      };
    },
  };
}

/** A promise and what resolves it. */
export function signal(): { given: Promise<void>; give: () => void } {
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  return { given, give };
}
