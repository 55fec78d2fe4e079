/** A run without a workflow: its activities called one by one, so that a test decides their order. */
import type { Fence } from '../../domain/contracts.js';
import type { World } from './world.js';

export type Asked = Awaited<ReturnType<World['ask']>>;

export async function admit(world: World, asked: Asked, attempt = 1): Promise<Fence> {
  const result = await world.activities.admitProvision({ operationId: asked.operationId, attempt });
  if (!('admitted' in result)) throw new Error(`not admitted: ${result.refused.code}`);
  const { tenantId, operationId, generation } = result.admitted;
  return { tenantId, operationId, generation };
}

export async function askAndAdmit(world: World): Promise<{ asked: Asked; fence: Fence }> {
  const asked = await world.ask();
  return { asked, fence: await admit(world, asked) };
}

export async function make({ activities }: World, fence: Fence): Promise<void> {
  await Promise.all([
    activities.provisionPostgres(fence),
    activities.provisionMongo(fence),
    activities.provisionRedis(fence),
  ]);
}

export async function proveAndActivate({ activities }: World, fence: Fence): Promise<void> {
  await activities.verifyTenant(fence);
  await activities.activateTenant(fence);
}

export async function undo({ activities }: World, fence: Fence): Promise<void> {
  await activities.undoRedis(fence);
  await activities.undoMongo(fence);
  await activities.undoPostgres(fence);
}

/** How `close` leaves an operation. */
export const CLOSED = { status: 'failed', code: 'STORE_UNAVAILABLE' } as const;

export const close = ({ activities }: World, fence: Fence) =>
  activities.closeOperation({
    ...fence,
    status: CLOSED.status,
    error: { code: CLOSED.code, message: 'MongoDB cannot be reached.' },
  });

export async function undoAndClose(world: World, fence: Fence): ReturnType<typeof close> {
  await undo(world, fence);
  return await close(world, fence);
}

/** One attempt from its admission to its activation. */
export async function makeActive(world: World, asked: Asked, attempt = 1): Promise<void> {
  const fence = await admit(world, asked, attempt);
  await make(world, fence);
  await proveAndActivate(world, fence);
}
