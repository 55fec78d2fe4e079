/**
 * The frame of every activity that has an effect in a store: begin the step under the fence, do the effect, record it.
 * Dying between effect and record leaves an allocation `intended` whose thing exists; the next attempt finds it.
 */
import type { ApplicationFailure } from '@temporalio/common';
import { catalogueError, isPostgresOutage } from '../catalogue/pool.js';
import type { BegunStep, Undone } from '../catalogue/steps.js';
import type { Fence, StepResult } from '../domain/contracts.js';
import { toRecordedError } from '../domain/errors.js';
import type { AllocationState, StepName, StoreName } from '../domain/operation.js';
import type { PreparedCell } from '../tenancy/cell-registry.js';
import { openCredential } from '../tenancy/credential.js';
import { storeError } from '../tenancy/store-error.js';
import type { ActivityDependencies } from './dependencies.js';
import { inCatalogue, toApplicationFailure } from './failure.js';
import { takenBack } from './take-back.js';

/** What an effect gets to work with. */
export interface StepContext {
  readonly fence: Fence;
  readonly begun: BegunStep;
  readonly connections: PreparedCell;
  /** The newest password of the tenant's user in a store. */
  password(store: 'mongo' | 'redis'): string;
}

interface Frame {
  readonly name: StepName;
  readonly stores: readonly StoreName[];
}

export interface StepDefinition extends Frame {
  /** The state of these stores' allocations when the effect is done. */
  readonly leaves: AllocationState;
  /** @returns evidence */
  readonly effect: (context: StepContext) => Promise<unknown>;
  /** Takes the effect back when it turns out that the run was undone meanwhile. */
  readonly revert?: (context: StepContext) => Promise<unknown>;
}

export interface UndoDefinition extends Frame {
  readonly effect: (context: StepContext) => Promise<Undone>;
}

export type StepActivity = (fence: Fence) => Promise<StepResult>;

export function stepActivity(deps: ActivityDependencies, definition: StepDefinition): StepActivity {
  const { name, stores, leaves, effect, revert } = definition;
  const { steps } = deps.catalogue;

  /** Called when the step's result could not be recorded: the run may have been overtaken, and then takes the effect back. */
  const whenNotRecorded = async (reason: unknown, context: StepContext): Promise<void> => {
    if (!revert) return;
    const settling = takenBack(deps, name, () =>
      steps.takeBack(context.fence, stores, () => revert(context)),
    );
    // If the catalogue is away, the attempt fails at once, and the taking back goes on behind it.
    if (!isPostgresOutage(reason)) await settling;
  };

  return async (fence) => {
    const context = await begin(deps, definition, fence);
    let evidence: unknown;
    try {
      evidence = await effect(context);
    } catch (error) {
      // Part of the effect may have happened.
      const takeBack = (reason: unknown) => whenNotRecorded(reason, context);
      throw await failed(deps, definition, context, errorOf(stores, error), takeBack);
    }
    try {
      await steps.finish(fence, name, { evidence, allocations: leaves, stores });
    } catch (error) {
      await whenNotRecorded(error, context);
      throw toApplicationFailure(catalogueError(error), deps.log, name);
    }
    return { residue: [] };
  };
}

/** An undo. While it is at work no retry is admitted, which would make the same things again. */
export function undoActivity(deps: ActivityDependencies, definition: UndoDefinition): StepActivity {
  const { name, stores, effect } = definition;
  return async (fence) => {
    const context = await begin(deps, definition, fence);
    try {
      const { residue } = await deps.catalogue.steps.undo(fence, name, stores, () =>
        effect(context).catch((error: unknown) => {
          throw errorOf(stores, error);
        }),
      );
      return { residue };
    } catch (error) {
      throw await failed(deps, definition, context, catalogueError(error));
    }
  };
}

async function begin(
  deps: ActivityDependencies,
  { name, stores }: Frame,
  fence: Fence,
): Promise<StepContext> {
  const begun = await inCatalogue(deps, name, deps.catalogue.steps.begin(fence, name));
  return contextOf(deps, fence, begun).catch(async (error: unknown) => {
    throw await failed(deps, { name, stores }, { fence, begun }, errorOf(stores, error));
  });
}

/** Records why a step failed. If that fails, it is only logged: Temporal has the failure too. */
async function failed(
  deps: ActivityDependencies,
  { name }: Frame,
  { fence, begun }: Pick<StepContext, 'fence' | 'begun'>,
  error: unknown,
  whenNotRecorded: (reason: unknown) => Promise<void> = () => Promise.resolve(),
): Promise<ApplicationFailure> {
  const { steps } = deps.catalogue;
  await steps.fail(fence, name, begun.attempts, toRecordedError(error)).catch(async (reason: unknown) => {
    deps.log.debug({ err: reason, step: name }, 'the failure of a step was not recorded');
    await whenNotRecorded(reason);
  });
  return toApplicationFailure(error, deps.log, name);
}

const errorOf = (stores: readonly StoreName[], error: unknown): unknown =>
  stores.length === 1 && stores[0] ? storeError(stores[0], error) : error;

async function contextOf(deps: ActivityDependencies, fence: Fence, begun: BegunStep): Promise<StepContext> {
  const connections = await deps.cells.get(begun.cell).catch((error: unknown) => {
    throw catalogueError(error);
  });
  return {
    fence,
    begun,
    connections,
    password: (store) => openCredential(deps.secrets, fence.tenantId, store, begun.credentials),
  };
}
