/**
 * An attempt that everybody has given up for dead and that goes on: its machine stood still, its network was cut. What
 * it makes then is unknown to everybody but itself, so it must take it back; and what by then is somebody else's it must
 * leave alone.
 */
import type { Fence } from '../../domain/contracts.js';
import { mongoDatabaseName, redisKey } from '../../domain/names.js';
import { expectAgreement, expectResidue } from '../support/agreement.js';
import { expectActive, expectNothingLeft, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { whileLocked } from '../support/locks.js';
import { startProvision } from '../support/provision.js';
import { stepsOf } from '../support/recorded.js';
import {
  admit,
  askAndAdmit,
  close,
  CLOSED,
  make,
  makeActive,
  proveAndActivate,
  undoAndClose,
} from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';
import { expectOvertaken, rowOf, settled, stuck, waitingNow } from './support/zombie.js';

const OVERTAKEN = { type: 'STALE_GENERATION', nonRetryable: true };

/** Where the zombie stands: nothing of its effect is made yet, half of it, all of it but not recorded. */
const PLACES = [
  ['provisionPostgres', 'after begin postgres'],
  ['provisionPostgres', 'before finish postgres'],
  ['provisionMongo', 'after begin mongo'],
  ['provisionMongo', 'after createRole'],
  ['provisionMongo', 'before finish mongo'],
  ['provisionRedis', 'after begin redis'],
  ['provisionRedis', 'after SET'],
  ['provisionRedis', 'before finish redis'],
] as const;

describe('a step that goes on after it was given up', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(() => world.close());

  it.each(PLACES)('%s, %s: when its run was undone and closed, it leaves nothing', async (step, point) => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, step, point, fence);
    expect(await undoAndClose(world, fence)).toMatchObject({ residue: [] });
    await expectOvertaken(zombie);
    await expectUndone(world, asked, CLOSED);
  });

  it.each(PLACES)('%s, %s: while its run is being undone, it leaves nothing', async (step, point) => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, step, point, fence);
    // The undo has seen that nothing is there, and has not yet said so.
    const store = step.replace('provision', '');
    const undoing = await stuck(world, `undo${store}`, `after undo undo-${store.toLowerCase()}`, fence);
    await expectOvertaken(zombie);
    undoing.release();
    expect(await undoing.result).toMatchObject({ residue: [] });
    expect(await undoAndClose(world, fence)).toMatchObject({ residue: [] });
    await expectUndone(world, asked, CLOSED);
  });

  it.each(PLACES)(
    '%s, %s: when a retry has made the tenant active, it leaves the tenant its data',
    async (step, point) => {
      const { asked, fence } = await askAndAdmit(world);
      const zombie = await stuck(world, step, point, fence);
      await undoAndClose(world, fence);
      await makeActive(world, asked, 2);
      const { mongo, redis } = await world.dependencies.cells.get(world.cell);
      const events = mongo.db(mongoDatabaseName(asked.tenantId)).collection('events');
      await events.insertOne({ kind: 'login', at: new Date() });
      const session = redisKey(asked.tenantId, 'session', '1');
      await redis.set(session, 'data');
      await expectOvertaken(zombie);
      expect(await events.deleteMany({})).toMatchObject({ deletedCount: 1 });
      expect(await redis.getdel(session)).toBe('data');
      await expectActive(world, asked);
    },
  );

  it.each(PLACES)('%s, %s: while a retry is on its way, it leaves that alone', async (step, point) => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, step, point, fence);
    await undoAndClose(world, fence);
    const retried = await admit(world, asked, 2);
    await make(world, retried);
    await expectOvertaken(zombie);
    await proveAndActivate(world, retried);
    await expectActive(world, asked);
  });

  it.each(PLACES)(
    '%s, %s: what it made while a retry was on its way is residue when that is withdrawn',
    async (step, point) => {
      const { asked, fence } = await askAndAdmit(world);
      const zombie = await stuck(world, step, point, fence);
      await undoAndClose(world, fence);
      await admit(world, asked, 2);
      await expectOvertaken(zombie);
      await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
      const found = await expectAgreement(world, asked.tenantId);
      await expectResidue(world, asked.operationId, found);
      await makeActive(world, asked, 3);
      await expectActive(world, asked);
    },
  );

  it('says nothing any more of a step that another attempt has done', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence, {
      at: 'before createUser',
    });
    await make(world, fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ type: 'STORE_UNAVAILABLE' });
    await proveAndActivate(world, fence);
    await expectActive(world, asked);
  });

  it.each([
    ['provisionPostgres', 'before finish postgres'],
    ['provisionMongo', 'before finish mongo'],
    ['provisionRedis', 'before finish redis'],
  ] as const)('%s, %s: what was verified meanwhile stays so', async (step, point) => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, step, point, fence);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    zombie.release();
    expect(await zombie.result).toEqual({ residue: [] });
    await world.activities.activateTenant(fence);
    await expectActive(world, asked);
  });

  it('begun again after all was proved, it is no step of an active tenant that still runs', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence);
    await world.activities.activateTenant(fence);
    await expectActive(world, asked);
    await expectOvertaken(zombie);
    await expectActive(world, asked);
  });

  it('takes back half an effect when the other half fails', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence, {
      at: 'before createUser',
    });
    await undoAndClose(world, fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ type: 'STORE_UNAVAILABLE' });
    await expectUndone(world, asked, CLOSED);
  });

  it('writes into the ledger what it could not take back, and a retry takes it over', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence, {
      at: 'before dropRole',
    });
    await undoAndClose(world, fence);
    zombie.release();
    expect(await zombie.result).toMatchObject(OVERTAKEN);
    const found = await expectAgreement(world, asked.tenantId);
    expect(new Set(found.map(({ store }) => store))).toEqual(new Set(['mongo']));
    await expectResidue(world, asked.operationId, found);
    await makeActive(world, asked, 2);
    await expectActive(world, asked);
  });

  it('writes that too while an undo, which looked before it, is about to say that nothing is there', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence, {
      at: 'before dropRole',
    });
    const undoing = await stuck(world, 'undoMongo', 'after undo undo-mongo', fence);
    zombie.release();
    expect(await zombie.result).toMatchObject(OVERTAKEN);
    undoing.release();
    await undoing.result;
    await expectAgreement(world, asked.tenantId);
    expect((await close(world, fence)).residue).not.toEqual([]);
  });

  it.each([
    ['closed', close],
    ['activated', ({ activities }: World, fence: Fence) => activities.activateTenant(fence)],
  ])('begun while its operation is being %s, it is no step that still runs', async (_, end) => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    let ended: Promise<unknown> | undefined;
    const zombie = () => world.catalogue.steps.begin(fence, 'mongo');
    await whileLocked(world, rowOf(asked), 1, zombie, async () => {
      ended = end(world, fence);
      await waitingNow(world, 2);
    });
    await ended;
    const steps = await stepsOf(world, asked.operationId);
    expect(steps.filter(({ status }) => status === 'running')).toEqual([]);
  });

  it.each(['provisionPostgres', 'provisionMongo', 'provisionRedis', 'verifyTenant'] as const)(
    '%s is refused at its beginning once an undo has begun',
    async (step) => {
      const { asked, fence } = await askAndAdmit(world);
      await make(world, fence);
      await world.activities.undoRedis(fence);
      expect(await settled(world.activities[step](fence))).toMatchObject(OVERTAKEN);
      await undoAndClose(world, fence);
      await expectNothingLeft(world, asked.tenantId);
    },
  );

  it('verifyTenant changes nothing when its run was undone and closed', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const zombie = await stuck(world, 'verifyTenant', 'after begin verify', fence);
    await undoAndClose(world, fence);
    zombie.release();
    // The users that it would probe with are gone.
    expect(await zombie.result).toMatchObject({ type: expect.any(String) as string });
    await expectUndone(world, asked, CLOSED);
  });

  it('an activation is refused once an undo has begun', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    await world.activities.undoRedis(fence);
    expect(await settled(world.activities.activateTenant(fence))).toMatchObject(OVERTAKEN);
    await undoAndClose(world, fence);
    await expectUndone(world, asked, CLOSED);
  });

  it('leaves nothing in a whole run: out of patience, undone and closed before it goes on', async () => {
    const holds = createHolds();
    const worker = await world.startWorker(holds.stepIn);
    const asked = await world.ask();
    const hold = holds.at('after begin mongo');
    const patience = { step: 1_500, undo: 20_000, attempt: 1_000 };
    const { handle } = await startProvision(world, { ...asked, patience });
    await hold.reached;
    await expect(handle.result()).rejects.toMatchObject({ name: 'WorkflowFailedError' });
    hold.release();
    // The zombies are activities of this worker, which waits for them.
    await worker.stop();
    expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({
      status: 'failed',
      error: { code: 'STEP_TIMED_OUT', message: expect.stringContaining('"mongo"') as string },
      residue: [],
    });
    await expectNothingLeft(world, asked.tenantId);
  });
});
