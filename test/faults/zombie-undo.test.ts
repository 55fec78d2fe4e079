/**
 * An undo that everybody has given up for dead and that goes on. What it has removed the ledger must hear, and what a
 * retry has made since it must leave alone.
 */
import { mongoDatabaseName } from '../../domain/names.js';
import { readGates } from '../../tenancy/postgres/gate.js';
import { expectAgreement } from '../support/agreement.js';
import { expectActive, expectNothingLeft, expectUndone } from '../support/expect.js';
import { whileLocked } from '../support/locks.js';
import {
  admit,
  askAndAdmit,
  close,
  CLOSED,
  make,
  makeActive,
  proveAndActivate,
  undo,
  undoAndClose,
} from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';
import { expectOvertaken, holding, rowOf, settled, stuck, waitingNow } from './support/zombie.js';

const UNDOS = ['undoPostgres', 'undoMongo', 'undoRedis'] as const;

describe('an undo that goes on after it was given up', () => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(() => world.close());

  it('comes to its end while its operation is being closed: it takes its residue off it', async () => {
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
        return Promise.race([zombie.result, waitingNow(world, 2)]);
      },
    );
    await zombie.result;
    await expectUndone(world, asked, CLOSED);
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
    await undoAndClose(world, fence);
    await makeActive(world, asked, 2);
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

  it('removes also what a statement that was under way has written behind its drop', async () => {
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
    await undoAndClose(world, fence);
    await expectUndone(world, asked, CLOSED);
  });

  it('makes no gate anew that another undo at the same time has removed', async () => {
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

  it('comes to its end after its operation was closed: it takes its residue off it', async () => {
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
    await expectUndone(world, asked, CLOSED);
  });

  it('and dies half-way leaves a ledger that claims nothing of what it removed', async () => {
    const { asked, fence } = await askAndAdmit(world);
    await make(world, fence);
    await world.catalogue.steps.begin(fence, 'undo-mongo');
    const { mongo } = await world.dependencies.cells.get(world.cell);
    await mongo.db(mongoDatabaseName(asked.tenantId)).dropDatabase();
    await expectAgreement(world, asked.tenantId);
    await undoAndClose(world, fence);
    await expectUndone(world, asked, CLOSED);
  });
});
