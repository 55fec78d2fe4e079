/**
 * An attempt that everybody has given up for dead and that goes on: its machine stood still, its network was cut. What
 * it makes then is unknown to everybody but itself, so it must take it back; and what by then is somebody else's it must
 * leave alone.
 */
import { withClient } from '../../catalogue/bootstrap.js';
import type { Fence } from '../../domain/contracts.js';
import { mongoDatabaseName, redisKey } from '../../domain/names.js';
import { readGates } from '../../tenancy/postgres/gate.js';
import { expectAgreement, expectResidue } from '../support/agreement.js';
import { expectActive, expectNothingLeft, expectUndone } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { untilWaiting, whileLocked } from '../support/locks.js';
import { startProvision } from '../support/provision.js';
import { admit, askAndAdmit, close, make, proveAndActivate, undo } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';
import { type Cut, holding, settled, stuckAt, type Zombie } from './support/zombie.js';

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
    await undo(world, fence);
    expect(await close(world, fence)).toMatchObject({ residue: [] });
    await expectOvertaken(zombie);
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
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
    await undo(world, fence);
    expect(await close(world, fence)).toMatchObject({ residue: [] });
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it.each(PLACES)(
    '%s, %s: when a retry has made the tenant active, it leaves the tenant its data',
    async (step, point) => {
      const { asked, fence } = await askAndAdmit(world);
      const zombie = await stuck(world, step, point, fence);
      await undo(world, fence);
      await close(world, fence);
      const retried = await admit(world, asked, 2);
      await make(world, retried);
      await proveAndActivate(world, retried);
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
    await undo(world, fence);
    await close(world, fence);
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
      await undo(world, fence);
      await close(world, fence);
      await admit(world, asked, 2);
      await expectOvertaken(zombie);
      await world.activities.withdrawAdmission({ ...asked, attempt: 2 });
      const found = await expectAgreement(world, asked.tenantId);
      await expectResidue(world, asked.operationId, found);
      const retried = await admit(world, asked, 3);
      await make(world, retried);
      await proveAndActivate(world, retried);
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
    await undo(world, fence);
    await close(world, fence);
    zombie.release();
    expect(await zombie.result).toMatchObject({ type: 'STORE_UNAVAILABLE' });
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it('writes into the ledger what it could not take back, and a retry takes it over', async () => {
    const { asked, fence } = await askAndAdmit(world);
    const zombie = await stuck(world, 'provisionMongo', 'after begin mongo', fence, {
      at: 'before dropRole',
    });
    await undo(world, fence);
    await close(world, fence);
    zombie.release();
    expect(await zombie.result).toMatchObject(OVERTAKEN);
    const found = await expectAgreement(world, asked.tenantId);
    expect(new Set(found.map(({ store }) => store))).toEqual(new Set(['mongo']));
    await expectResidue(world, asked.operationId, found);
    const retried = await admit(world, asked, 2);
    await make(world, retried);
    await proveAndActivate(world, retried);
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
      await waitingNow(2);
    });
    await ended;
    const steps = await world.catalogue.operations.steps(asked.operationId);
    expect(steps.filter(({ status }) => status === 'running')).toEqual([]);
  });

  it('an undo that comes to its end while its operation is being closed takes its residue off it', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.undoRedis(fence);
    await world.activities.undoPostgres(fence);
    const zombie = await stuck(world, 'undoMongo', 'after undo undo-mongo', fence);
    await whileLocked(
      world,
      rowOf(asked),
      1,
      () => close(world, fence),
      () => {
        zombie.release();
        return Promise.race([zombie.result, waitingNow(2)]);
      },
    );
    await zombie.result;
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it.each(['provisionPostgres', 'provisionMongo', 'provisionRedis', 'verifyTenant'] as const)(
    '%s is refused at its beginning once an undo has begun',
    async (step) => {
      const { asked, fence } = await askAndAdmit(world);
      await make(world, fence);
      await world.activities.undoRedis(fence);
      expect(await settled(world.activities[step](fence))).toMatchObject(OVERTAKEN);
      await undo(world, fence);
      await close(world, fence);
      await expectNothingLeft(world, asked.tenantId);
    },
  );

  it('verifyTenant changes nothing when its run was undone and closed', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const zombie = await stuck(world, 'verifyTenant', 'after begin verify', fence);
    await undo(world, fence);
    await close(world, fence);
    zombie.release();
    // The users that it would probe with are gone.
    expect(await zombie.result).toMatchObject({ type: expect.any(String) as string });
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it('an activation is refused once an undo has begun', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.activities.verifyTenant(fence);
    await world.activities.undoRedis(fence);
    expect(await settled(world.activities.activateTenant(fence))).toMatchObject(OVERTAKEN);
    await undo(world, fence);
    await close(world, fence);
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it.each([
    ['undoPostgres', 'before begin undo-postgres'],
    ['undoPostgres', 'after begin undo-postgres'],
    ['undoMongo', 'before begin undo-mongo'],
    ['undoMongo', 'after begin undo-mongo'],
    ['undoRedis', 'before begin undo-redis'],
    ['undoRedis', 'after begin undo-redis'],
  ] as const)('%s, %s: when a retry has made the tenant active, it removes nothing', async (step, point) => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const zombie = await stuck(world, step, point, fence);
    await undo(world, fence);
    await close(world, fence);
    const retried = await admit(world, asked, 2);
    await make(world, retried);
    await proveAndActivate(world, retried);
    await expectOvertaken(zombie);
    await expectActive(world, asked);
  });

  it.each([
    ['undoPostgres', 'before undo undo-postgres'],
    ['undoPostgres', 'before COMMIT'],
    ['undoMongo', 'after dropRole'],
    ['undoMongo', 'before dropDatabase'],
    ['undoMongo', 'after undo undo-mongo'],
    ['undoRedis', 'after DELUSER'],
    ['undoRedis', 'before DEL'],
  ] as const)(
    '%s, %s: while it still removes, no retry is admitted, and the ledger hears what was removed',
    async (step, point) => {
      const { asked, fence } = await askAndAdmit(world);
      await make(world, fence);
      const zombie = await stuck(world, step, point, fence);
      // The run has given it up and ends with residue.
      await Promise.all(
        [...UNDOS].filter((other) => other !== step).map((other) => world.activities[other](fence)),
      );
      expect((await close(world, fence)).residue).not.toEqual([]);
      expect(await settled(admit(world, asked, 2))).toMatchObject({
        type: 'UNDO_RUNNING',
        nonRetryable: false,
      });
      zombie.release();
      expect(await zombie.result).toEqual({ residue: [] });
      const retried = await admit(world, asked, 2);
      expect(await expectAgreement(world, asked.tenantId)).toEqual([]);
      await make(world, retried);
      await proveAndActivate(world, retried);
      await expectActive(world, asked);
    },
  );

  it('an undo removes also what a statement that was under way has written behind its drop', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const undoing = await stuck(world, 'undoMongo', 'after dropDatabase', fence);
    const { mongo } = await world.dependencies.cells.get(world.cell);
    // As the server does it: the statement was let in before the role went, and its collection is made anew for it.
    await mongo
      .db(mongoDatabaseName(asked.tenantId))
      .collection('events')
      .insertOne({ kind: 'login', at: new Date() });
    undoing.release();
    expect(await undoing.result).toEqual({ residue: [] });
    await undo(world, fence);
    await close(world, fence);
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it('an undo makes no gate anew that another one at the same time has removed', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const { holds, activities } = holding(world);
    const [before, after] = [holds.at('before gate-close'), holds.at('after gate-close')];
    const result = settled(activities.undoPostgres(fence));
    await before.reached;
    await undo(world, fence);
    before.release();
    await after.reached;
    const { postgres } = await world.dependencies.cells.get(world.cell);
    expect((await readGates(postgres.control, [asked.tenantId])).size).toBe(0);
    after.release();
    expect(await result).toEqual({ residue: [] });
    await close(world, fence);
    await expectNothingLeft(world, asked.tenantId);
  });

  it('an undo that was given up and comes to its end takes its residue off the operation', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    const zombie = await stuck(world, 'undoMongo', 'after dropRole', fence);
    await world.activities.undoRedis(fence);
    await world.activities.undoPostgres(fence);
    const { residue } = await close(world, fence);
    expect(new Set(residue.map(({ store }) => store))).toEqual(new Set(['mongo']));
    expect(await world.catalogue.operations.find(asked.operationId)).toMatchObject({ residue });
    zombie.release();
    await zombie.result;
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  it('an undo that dies half-way leaves a ledger that claims nothing of what it removed', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.catalogue.steps.begin(fence, 'undo-mongo');
    const { mongo } = await world.dependencies.cells.get(world.cell);
    await mongo.db(mongoDatabaseName(asked.tenantId)).dropDatabase();
    await expectAgreement(world, asked.tenantId);
    await undo(world, fence);
    await close(world, fence);
    await expectUndone(world, asked, { status: 'failed', code: 'STORE_UNAVAILABLE' });
  });

  const rowOf = ({ operationId }: Pick<Fence, 'operationId'>) => ({
    text: 'SELECT FROM operation WHERE id = $1 FOR UPDATE',
    values: [operationId],
  });
  const waitingNow = (count: number) =>
    withClient(world.url('control'), (client) => untilWaiting(client, count));

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

const UNDOS = ['undoPostgres', 'undoMongo', 'undoRedis'] as const;

type Step = 'provisionPostgres' | 'provisionMongo' | 'provisionRedis' | 'verifyTenant' | `undo${string}`;

/** The step, standing at the point. */
const stuck = (world: World, step: Step, point: string, fence: Fence, cut?: Cut): Promise<Zombie> =>
  stuckAt(world, point, (activities) => activities[step as 'provisionMongo'](fence), cut);

async function expectOvertaken({ release, result }: Zombie): Promise<void> {
  release();
  // Whatever it stumbles over, Temporal is not to try it again.
  expect(await result).toMatchObject({ nonRetryable: true });
}
