/** Redis that comes back without anything: the users are made again, and who was at work goes on without a restart. */
import { Redis } from 'ioredis';
import { redisKey, redisUserName } from '../../../domain/names.js';
import type { TenantId } from '../../../domain/ids.js';
import { productStores, type Tenant, type Tenantry } from '../../../tenancy/index.js';
import { provisioned } from '../../support/provision.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { open } from '../context/support.js';
import { startOwnRedis } from './support.js';

describe('Redis restarts empty', () => {
  let own: Awaited<ReturnType<typeof startOwnRedis>>;
  let world: World;
  let tenantry: Tenantry;
  let admin: Redis;
  let slugs: string[];
  beforeAll(async () => {
    own = await startOwnRedis();
    world = await createWorld({ servers: { redisUrl: own.server.url } });
    await world.startWorker();
    slugs = await Promise.all(Array.from({ length: 3 }, () => provisioned(world)));
    tenantry = open(world, { stores: productStores({ manifest: world.manifest }) });
    await tenantry.listening;
    admin = new Redis(own.server.url, { maxRetriesPerRequest: null, retryStrategy: () => 50 });
    admin.on('error', () => undefined);
  });
  afterAll(async () => {
    await own.server.start();
    admin.disconnect();
    await tenantry.close();
    await world.close();
    await own.close();
  });

  it('tenants that were at work, and those that were not, work again, and none of them reaches another', async () => {
    const [first = '', second = '', unused = ''] = slugs;
    for (const slug of [first, second])
      await as(slug, ({ redis }) => redis.namespace('cache').set('a', slug));

    // Nothing is left to come back with: neither keys nor markers, and users never were on its disk.
    await admin.flushall();
    await own.server.kill();
    await expect(as(first, ({ redis }) => redis.namespace('cache').get('a'))).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryable: true,
    });
    await own.server.start();

    for (const slug of [first, second, unused]) {
      await until('it may come in', () =>
        as(slug, ({ redis }) => redis.namespace('cache').set('b', slug)).catch(() => undefined),
      );
      expect(await as(slug, ({ redis }) => redis.namespace('cache').mget('a', 'b'))).toEqual([null, slug]);
    }

    const ids: TenantId[] = await Promise.all(slugs.map((slug) => as(slug, ({ tenantId }) => tenantId)));
    for (const id of ids)
      for (const target of ids) {
        const allowed = await admin.call(
          'ACL',
          'DRYRUN',
          redisUserName(id),
          'GET',
          redisKey(target, 'cache', 'b'),
        );
        expect(allowed === 'OK').toBe(id === target);
      }
  });

  it('and again each time: with its data it has forgotten its users all the same', async () => {
    const [slug = ''] = slugs;
    for (let time = 0; time < 2; time++) {
      await own.server.kill();
      await own.server.start();
      await until('it may come in', () =>
        as(slug, ({ redis }) => redis.namespace('cache').incr('c')).catch(() => undefined),
      );
      expect(await as(slug, ({ redis }) => redis.namespace('cache').get('c'))).toBe(String(time + 1));
    }
  });

  const as = <T>(slug: string, work: (tenant: Tenant) => T | Promise<T>): Promise<T> =>
    tenantry.runWithTenant(slug, work);
});
