/**
 * The Redis reconciler standing still while a tenant is undone in Redis, MongoDB and PostgreSQL: what it makes behind that is
 * taken away again, and nothing else.
 */
import { redisKey, redisMarkerKey } from '../../domain/names.js';
import { reconcileNamespaces, type Unsettled } from '../../tenancy/redis/reconcile.js';
import { surveyTenant } from '../../tenancy/survey.js';
import { expectActive, expectUndone } from '../support/expect.js';
import { createHolds, type Hold } from '../support/holds.js';
import { atPoints } from '../support/points.js';
import {
  admit,
  askAndAdmit,
  type Asked,
  close,
  CLOSED,
  make,
  proveAndActivate,
  undo,
  undoAndClose,
} from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';
import { settled } from './support/zombie.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it("an ACL user that is made again behind its tenant's undo is taken away again", async () => {
  const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne();
  const hold = holds.at('before SETUSER');
  const reconciling = reconcileNamespaces(catalogue, secrets, redis, world.cell);
  await undoneAt(hold);
  await reconciling;
  await expectNothingOf(asked);
});

it.each(['user', 'marker'])(
  'also a %s that was made by a run which the catalogue then left',
  async (made) => {
    const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne();
    if (made === 'marker') await redis.del(redisMarkerKey(asked.tenantId));
    const away: typeof catalogue = {
      ...catalogue,
      tenants: {
        ...catalogue.tenants,
        haveRedisUsers: () => Promise.reject(new Error('Connection terminated')),
      },
    };
    const unsettled: Unsettled = new Map();
    const hold = holds.at(made === 'marker' ? 'before SET' : 'before SETUSER');
    const reconciling = settled(reconcileNamespaces(away, secrets, redis, world.cell, unsettled));
    await undoneAt(hold);
    expect(await reconciling).toMatchObject({ code: 'CATALOGUE_UNAVAILABLE' });
    await reconcileNamespaces(catalogue, secrets, redis, world.cell, unsettled);
    await expectNothingOf(asked);
  },
);

it('also a marker of a run that Redis left before it had the user', async () => {
  const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne((point) => {
    if (point === 'after SET') throw new Error('Connection is closed.');
  });
  await redis.del(redisMarkerKey(asked.tenantId));
  const unsettled: Unsettled = new Map();
  const hold = holds.at('before SET');
  const reconciling = settled(reconcileNamespaces(catalogue, secrets, redis, world.cell, unsettled));
  await undoneAt(hold);
  expect(await reconciling).toMatchObject({ message: 'Connection is closed.' });
  await reconcileNamespaces(catalogue, secrets, await redisThatGoesOn(), world.cell, unsettled);
  await expectNothingOf(asked);
});

it('also what a run has made while another one came and went', async () => {
  const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne();
  await redis.del(redisMarkerKey(asked.tenantId));
  const unsettled: Unsettled = new Map();
  const hold = holds.at('after SET');
  const reconciling = reconcileNamespaces(catalogue, secrets, redis, world.cell, unsettled);
  await hold.reached;
  await reconcileNamespaces(catalogue, secrets, await redisThatGoesOn(), world.cell, unsettled);
  await undoneAt(hold);
  await reconciling;
  await expectNothingOf(asked);
});

it("a marker that is set again behind its tenant's undo is taken away again", async () => {
  const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne();
  await redis.del(redisMarkerKey(asked.tenantId));
  const hold = holds.at('before SET');
  const reconciling = reconcileNamespaces(catalogue, secrets, redis, world.cell);
  await undoneAt(hold);
  expect(await reconciling).toMatchObject({ markers: 0 });
  await expectNothingOf(asked);
});

it('but one that was there stays, for the undo to know the keys by', async () => {
  const { asked, fence, holds, redis, catalogue, secrets } = await madeOne();
  const key = redisKey(asked.tenantId, 'session', '1');
  await redis.set(key, 'data');
  const hold = holds.at('before SETUSER');
  const reconciling = reconcileNamespaces(catalogue, secrets, redis, world.cell);
  await hold.reached;
  // An undo has begun, and has removed nothing yet.
  await world.catalogue.steps.begin(fence, 'undo-redis');
  hold.release();
  await reconciling;
  expect(await kindsInRedis(asked)).toEqual(['marker']);
  await undo(world, fence);
  expect(await redis.exists(key)).toBe(0);
  await close(world, fence);
  await expectNothingOf(asked);
});

it('what a retry has made meanwhile is not taken away for the attempt before', async () => {
  const { asked, undoneAt, holds, redis, catalogue, secrets } = await madeOne();
  const gate = holds.at('withdrawal');
  const tenants: typeof catalogue.tenants = {
    ...catalogue.tenants,
    async unlessDue(id, work) {
      await holds.reach('withdrawal', undefined);
      return catalogue.tenants.unlessDue(id, work);
    },
  };
  const hold = holds.at('before SETUSER');
  const reconciling = reconcileNamespaces({ ...catalogue, tenants }, secrets, redis, world.cell);
  await undoneAt(hold);
  await gate.reached;
  const retried = await admit(world, asked, 2);
  await make(world, retried);
  gate.release();
  await reconciling;
  await proveAndActivate(world, retried);
  await expectActive(world, asked);
});

/**
 * A tenant that was made in every store, and what the reconciler is given, which stands in Redis where a hold is.
 * @param then what happens at a point when its hold was let go
 */
async function madeOne(then: (point: string) => void = () => undefined) {
  const { asked, fence } = await askAndAdmit(world);
  await make(world, fence);
  const holds = createHolds();
  const { cells, catalogue, secrets } = atPoints(world.dependencies, async (point, workflowId) => {
    await holds.reach(point, workflowId);
    then(point);
  });
  const { redis } = await cells.get(world.cell);
  /** While the reconciler stands there, the tenant is undone and its operation closed. */
  const undoneAt = async (hold: Hold): Promise<void> => {
    await hold.reached;
    await undoAndClose(world, fence);
    hold.release();
  };
  return { asked, fence, holds, redis, catalogue, secrets, undoneAt };
}

/** The same server, without holds. */
const redisThatGoesOn = async () => (await world.dependencies.cells.get(world.cell)).redis;

const expectNothingOf = (asked: Asked): Promise<void> => expectUndone(world, asked, CLOSED);

async function kindsInRedis({ tenantId }: Asked): Promise<string[]> {
  const found = await surveyTenant(await world.dependencies.cells.get(world.cell), tenantId);
  return found.filter(({ store }) => store === 'redis').map(({ kind }) => kind);
}
