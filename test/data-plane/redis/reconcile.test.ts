/** Redis that comes back without anything, or another in its place: the users are made again, and work goes on. */
import { Redis } from 'ioredis';
import { redisKey, redisUserName } from '../../../domain/names.js';
import type { TenantId } from '../../../domain/ids.js';
import { productStores, type Tenant, type Tenantry } from '../../../tenancy/index.js';
import { namespacePresent } from '../../../tenancy/redis/namespace.js';
import { type Link, openLink } from '../../support/link.js';
import { provisioned } from '../../support/provision.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { open } from '../context/support.js';
import { failOver, follow, type OwnRedis, startOwnRedis } from './support.js';

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
      for (const target of ids) expect(await mayRead(admin, id, target)).toBe(id === target);
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

  it('one whose password does not open keeps nobody else out', async () => {
    const [slug = '', altered = ''] = slugs;
    const id = await as(altered, ({ tenantId }) => tenantId);
    await world.catalogue.pool.query(
      `UPDATE credential SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE tenant_id = $1 AND store = 'redis'`,
      [id],
    );
    await own.server.kill();
    await own.server.start();
    await until('it may come in', () =>
      as(slug, ({ redis }) => redis.namespace('cache').set('d', 1)).catch(() => undefined),
    );
    expect(await namespacePresent(admin, id)).toEqual({ marker: true, user: false });
  });

  const as = <T>(slug: string, work: (tenant: Tenant) => T | Promise<T>): Promise<T> =>
    tenantry.runWithTenant(slug, work);
});

/** Whoever asks reaches the servers through a link, as through the address of a managed Redis. */
describe.each([
  ['whose connections are cut', (link: Link) => link.cut()],
  // A primary that is asked to step down keeps its clients, and takes no more writes.
  ['whose connections stay', () => undefined],
])('Redis fails over to another server, %s', (_, cut) => {
  let first: OwnRedis;
  let second: OwnRedis;
  let link: Link;
  let world: World;
  let tenantry: Tenantry;
  let admins: Redis[];
  beforeAll(async () => {
    first = await startOwnRedis();
    second = await startOwnRedis(first.server);
    link = await openLink(first.server.url);
    world = await createWorld({ servers: { redisUrl: link.url } });
    await world.startWorker();
    tenantry = open(world, { stores: productStores({ manifest: world.manifest }) });
    await tenantry.listening;
    admins = [first, second].map(({ server }) => new Redis(server.url));
  });
  afterAll(async () => {
    for (const admin of admins) admin.disconnect();
    await tenantry.close();
    await world.close();
    await link.close();
    await Promise.all([first.close(), second.close()]);
  });

  it('users and markers are there, tenants work on, a new one is made, and none reaches another; and back again', async () => {
    const slugs = await Promise.all(Array.from({ length: 3 }, () => provisioned(world)));
    const as = <T>(slug: string, work: (tenant: Tenant) => T | Promise<T>): Promise<T> =>
      tenantry.runWithTenant(slug, work);
    // The last one has not been at work when it happens.
    for (const slug of slugs.slice(1)) await as(slug, ({ redis }) => redis.namespace('cache').set('a', slug));

    for (const [from, to, admin] of [
      [first, second, admins[1] as Redis],
      [second, first, admins[0] as Redis],
    ] as const) {
      // It has the keys, the markers too, and no user or those of long ago.
      await follow(to.server, from.server);
      await admin.acl('DELUSER', ...(await userNames()));
      link.leadTo(to.server.url);
      await failOver(from.server, to.server);
      cut(link);

      for (const slug of slugs) {
        await until('it may write', () =>
          as(slug, ({ redis }) => redis.namespace('cache').set('b', slug)).catch(() => undefined),
        );
        const kept = slug === slugs[0] ? null : slug;
        expect(await as(slug, ({ redis }) => redis.namespace('cache').mget('a', 'b'))).toEqual([kept, slug]);
      }
      const ids = await Promise.all(slugs.map((slug) => as(slug, ({ tenantId }) => tenantId)));
      for (const id of ids) {
        expect(await namespacePresent(admin, id)).toEqual({ marker: true, user: true });
        for (const target of ids) expect(await mayRead(admin, id, target)).toBe(id === target);
      }
      const fresh = await provisioned(world);
      expect(await as(fresh, ({ redis }) => redis.namespace('cache').set('b', fresh))).toBe('OK');
      expect(await admin.get(redisKey(await as(fresh, ({ tenantId }) => tenantId), 'cache', 'b'))).toBe(
        fresh,
      );
    }
  });

  async function userNames(): Promise<string[]> {
    const { rows } = await world.catalogue.pool.query<{ id: TenantId }>('SELECT id FROM tenant');
    return rows.map(({ id }) => redisUserName(id));
  }
});

async function mayRead(admin: Redis, id: TenantId, target: TenantId): Promise<boolean> {
  const command = ['GET', redisKey(target, 'cache', 'b')];
  return (await admin.call('ACL', 'DRYRUN', redisUserName(id), ...command)) === 'OK';
}
