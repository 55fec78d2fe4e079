// Redis through the data plane against plain ioredis as the `default` user, with 10,000 ACL users in the server: a busy
// tenant on a connection of its own, and all of them in turn over a few that they share.
//
// What is compared: the same number of connections, the same callers at once, and GETs of the same keys, which are there.
// One side names them through a tenant's namespace, whose user the server checks; the other by their full names.
// What of a ratio is the client and what is the isolation, the other figures say: `_vs_autopipelined` is against ioredis
// with `enableAutoPipelining`, which puts a turn's commands in one write as the data plane does; `redis_acl_vs_default`
// is one and the same connection class, logged in as the tenant's user and as `default`.

import { Redis } from 'ioredis';
import { newTenantId, type TenantId } from '../../domain/ids.js';
import { redisKey, redisUserName } from '../../domain/names.js';
import { newPassword } from '../../keys/sealed-secret.js';
import supportDesk from '../../manifest/support-desk.js';
import { type Account, Lane } from '../../tenancy/redis/lane.js';
import { ensureNamespaces } from '../../tenancy/redis/namespace.js';
import { encode } from '../../tenancy/redis/resp.js';
import {
  createScopedRedis,
  type RedisNamespace,
  type ScopedRedisOptions,
} from '../../tenancy/redis/scoped.js';
import { atOnce, type Benchmark, type Figure, figure, inTurn, timed } from '../harness.js';
import { measureReconcile } from '../redis-reconcile.js';
import { withServers } from '../servers.js';

export interface RedisBenchOptions {
  /** As an administrator. */
  readonly redisUrl: string;
  readonly say: (line: string) => void;
  readonly tenants?: number;
  /** Commands of each sample. */
  readonly commands?: number;
  readonly rounds?: number;
}

const SHARED = 4;
const CALLERS = 64;
const PIPELINE = 20;
const KEY = 'greeting';
const VALUE = 'x'.repeat(100);

export async function measureRedis(options: RedisBenchOptions): Promise<Record<string, Figure>> {
  const { redisUrl, say, tenants = 10_000, commands = 20_000, rounds = 7 } = options;
  const url = new URL(redisUrl);
  const asDefault: Account = { user: 'default', password: decodeURIComponent(url.password) };
  url.username = url.password = '';
  const admin = new Redis(redisUrl);
  const passwords = new Map<TenantId, string>();
  const closing: (() => unknown)[] = [() => admin.disconnect()];
  const plain = (count: number, enableAutoPipelining = false): Redis[] =>
    Array.from({ length: count }, () => {
      const redis = new Redis(redisUrl, { enableAutoPipelining });
      closing.push(() => redis.disconnect());
      return redis;
    });
  const scoped = (more: Partial<ScopedRedisOptions>): ((tenantId: TenantId) => RedisNamespace) => {
    const source = createScopedRedis({
      servers: { redisUrl: url.href },
      credentials: { get: async (tenantId) => ({ version: 1, password: passwords.get(tenantId) ?? '' }) },
      manifest: supportDesk,
      ...more,
    });
    closing.push(() => source.close());
    return (tenantId) => source.forTenant({ tenantId, mode: 'open' }).namespace('cache');
  };
  try {
    say(`making ${tenants} ACL users`);
    const ids = Array.from({ length: tenants }, newTenantId);
    await makeTenants(admin, ids, passwords);
    const [busy] = ids as [TenantId];
    const busyKey = redisKey(busy, 'cache', KEY);
    // As many each as one sample takes, in an order that is the same to all sides.
    const picks = Array.from(
      { length: commands },
      () => ids[Math.floor(Math.random() * ids.length)] as TenantId,
    );
    const times = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
    const singles = (get: (call: number) => Promise<unknown>) => () =>
      timed(() => atOnce(CALLERS, times(commands), async (call) => expectValue(await get(call))));

    say('a connection of its own');
    const [one] = plain(1) as [Redis];
    const [oneAuto] = plain(1, true) as [Redis];
    const own = scoped({ sharedConnections: 1, ownConnections: 1, promoteAt: 1 })(busy);
    const text = encode(['GET', busyKey]);
    const laneAs = (account: Account): (() => Promise<unknown>) => {
      const lane = new Lane({ url: url.href, name: 'bench', connectTimeout: 5_000, commandTimeout: 60_000 });
      closing.push(() => lane.close());
      return () =>
        new Promise((resolve, reject) =>
          lane.submit({
            account,
            text,
            count: 1,
            end: (outcome) =>
              outcome.kind === 'answered' ? resolve(outcome.replies[0]) : reject(outcome.error),
          }),
        );
    };
    const alone = {
      plain: singles(() => one.get(busyKey)),
      own: singles(() => own.get(KEY)),
      autopipelined: singles(() => oneAuto.get(busyKey)),
      laneAsDefault: singles(laneAs(asDefault)),
      laneAsTenant: singles(laneAs({ user: redisUserName(busy), password: passwords.get(busy) ?? '' })),
    };
    await inTurn(1, alone);
    const aloneTimes = await inTurn(rounds, alone);

    say('over shared connections');
    const few = plain(SHARED);
    const fewAuto = plain(SHARED, true);
    const crowd = scoped({ sharedConnections: SHARED, ownConnections: 0 });
    const of = (redises: readonly Redis[], call: number): Redis => redises[call % redises.length] as Redis;
    const idOf = (call: number): TenantId => picks[call % picks.length] as TenantId;
    const shared = {
      plain: singles((call) => of(few, call).get(redisKey(idOf(call), 'cache', KEY))),
      shared: singles((call) => crowd(idOf(call)).get(KEY)),
      autopipelined: singles((call) => of(fewAuto, call).get(redisKey(idOf(call), 'cache', KEY))),
    };
    await inTurn(1, shared);
    const sharedTimes = await inTurn(rounds, shared);

    say(`pipelines of ${PIPELINE} over shared connections`);
    const pipelines = (exec: (call: number) => Promise<readonly unknown[] | null>) => () =>
      timed(() =>
        atOnce(CALLERS, times((commands * 2) / PIPELINE), async (call) => {
          for (const [, value] of (await exec(call)) as [unknown, unknown][]) expectValue(value);
        }),
      );
    const pipelined = {
      plain: pipelines((call) => {
        const pipeline = of(few, call).pipeline();
        for (let i = 0; i < PIPELINE; i++) pipeline.get(redisKey(idOf(call), 'cache', KEY));
        return pipeline.exec();
      }),
      shared: pipelines((call) => {
        const pipeline = crowd(idOf(call)).pipeline();
        for (let i = 0; i < PIPELINE; i++) pipeline.get(KEY);
        return pipeline.exec();
      }),
    };
    await inTurn(1, pipelined);
    const pipelinedTimes = await inTurn(rounds, pipelined);

    say(`making ${tenants} users again, as after a restart`);
    const reconciled = await withServers(['postgres'], ({ urls }) =>
      measureReconcile({ postgresUrl: urls.postgres, redis: admin, passwords, rounds: 3 }),
    );

    const ratios = (against: readonly number[], of: readonly number[]): number[] =>
      against.map((time, round) => time / (of[round] ?? Number.NaN));
    return {
      redis_own_vs_default: figure(ratios(aloneTimes.plain, aloneTimes.own), { is: '>=', value: 0.95 }),
      redis_own_vs_autopipelined: figure(ratios(aloneTimes.autopipelined, aloneTimes.own)),
      redis_acl_vs_default: figure(ratios(aloneTimes.laneAsDefault, aloneTimes.laneAsTenant)),
      redis_shared_vs_default: figure(ratios(sharedTimes.plain, sharedTimes.shared), {
        is: '>=',
        value: 0.5,
      }),
      redis_shared_vs_autopipelined: figure(ratios(sharedTimes.autopipelined, sharedTimes.shared)),
      redis_shared_pipeline_vs_default: figure(ratios(pipelinedTimes.plain, pipelinedTimes.shared), {
        is: '>=',
        value: 1,
      }),
      [`redis_reconcile_${tenants / 1_000}k_ms`]: figure(reconciled),
      redis_default_per_second: figure(aloneTimes.plain.map((time) => (commands / time) * 1_000)),
    };
  } finally {
    for (const close of closing) await close();
  }
}

const benchmark: Benchmark = {
  name: 'data-plane-redis',
  run: (say) =>
    withServers(['redis'], async (servers) => ({
      figures: await measureRedis({ redisUrl: servers.urls.redis, say }),
      environment: servers.environment,
    })),
};
export default benchmark;

async function makeTenants(
  admin: Redis,
  ids: readonly TenantId[],
  passwords: Map<TenantId, string>,
): Promise<void> {
  for (const id of ids) passwords.set(id, newPassword());
  for (let i = 0; i < ids.length; i += 1_000) {
    const page = ids.slice(i, i + 1_000);
    await ensureNamespaces(
      admin,
      page.map((tenantId) => ({ tenantId, password: passwords.get(tenantId) ?? '' })),
    );
    await admin.mset(page.flatMap((tenantId) => [redisKey(tenantId, 'cache', KEY), VALUE]));
  }
}

function expectValue(value: unknown): void {
  if (value !== VALUE) throw new Error('a key has not the value that it was given');
}
