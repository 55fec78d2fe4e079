/** Tenants with ACL users on a real Redis, and their scoped sides. */
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { newTenantId, type TenantId } from '../../../domain/ids.js';
import { defineManifest, type Manifest } from '../../../domain/manifest.js';
import { redisKeyPrefix, redisUserName } from '../../../domain/names.js';
import { startRedis } from '../../../local/redis.js';
import { silentReport } from '../../../local/report.js';
import { writePrivate } from '../../../local/secret.js';
import type { RunningServer } from '../../../local/server.js';
import supportDesk from '../../../manifest/support-desk.js';
import type { TenantCredentials } from '../../../tenancy/context/cell-servers.js';
import { aclArguments } from '../../../tenancy/redis/acl.js';
import { ensureNamespaces } from '../../../tenancy/redis/namespace.js';
import {
  createScopedRedis,
  type ScopedRedis,
  type ScopedRedisOptions,
  type ScopedRedisSource,
} from '../../../tenancy/redis/scoped.js';
import { serverFolder } from '../../support/folder.js';
import { ownEnv } from '../../support/servers.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';

export interface TestTenant {
  readonly tenantId: TenantId;
  readonly user: string;
  readonly prefix: string;
  /** What the server knows; the catalogue's word is `credentials`. */
  password: string;
}

export interface Bench {
  /** As the server's admin. */
  readonly admin: Redis;
  readonly url: string;
  readonly credentials: TenantCredentials;
  /** Passwords by tenant, as the catalogue has them. */
  readonly known: Map<TenantId, string>;
  /** Times that the catalogue was asked past the cache. */
  readonly asked: { fresh: number };
  tenants(count: number): Promise<TestTenant[]>;
  tenant(): Promise<TestTenant>;
  /** Gives the user another password. `knows`: whether the catalogue knows it too. */
  rotate(tenant: TestTenant, options?: { knows?: boolean }): Promise<void>;
  source(options?: Partial<ScopedRedisOptions>): ScopedRedisSource;
  /** A connection to the server with the wrapper by-passed. */
  bypass(tenant: TestTenant): Promise<Redis>;
  close(): Promise<void>;
}

export const manifest: Manifest = defineManifest({
  ...supportDesk,
  redis: {
    namespaces: {
      ...supportDesk.redis.namespaces,
      notes: {},
      drafts: { ttlSeconds: 100 },
      few: { maxKeys: 3 },
      fleeting: { maxKeys: 2, ttlSeconds: 100 },
      small: { maxBytes: 10_000 },
    },
  },
});

export function openBench(url: string = testStack().redisUrl): Bench {
  const admin = new Redis(url, { maxRetriesPerRequest: null, retryStrategy: () => 50 });
  admin.on('error', () => undefined);
  const known = new Map<TenantId, string>();
  const asked = { fresh: 0 };
  const made: TestTenant[] = [];
  const sources = new Set<ScopedRedisSource>();
  const bypasses: Redis[] = [];
  const credentials: TenantCredentials = {
    async get(tenantId, _store, options) {
      if (options?.fresh === true) asked.fresh += 1;
      const password = known.get(tenantId);
      if (password === undefined) throw new Error('no such credential');
      return { version: 1, password };
    },
  };
  const bench: Bench = {
    admin,
    url,
    credentials,
    known,
    asked,
    async tenants(count) {
      const fresh = Array.from({ length: count }, () => {
        const tenantId = newTenantId();
        const password = randomBytes(24).toString('base64url');
        return { tenantId, password, user: redisUserName(tenantId), prefix: redisKeyPrefix(tenantId) };
      });
      await ensureNamespaces(admin, fresh);
      for (const { tenantId, password } of fresh) known.set(tenantId, password);
      made.push(...fresh);
      return fresh;
    },
    async tenant() {
      const [tenant] = await bench.tenants(1);
      if (tenant === undefined) throw new Error('no tenant');
      return tenant;
    },
    async rotate(tenant, { knows = true } = {}) {
      tenant.password = randomBytes(24).toString('base64url');
      if (knows) known.set(tenant.tenantId, tenant.password);
      await admin.acl('SETUSER', tenant.user, ...aclArguments(tenant.tenantId, tenant.password));
    },
    source(options = {}) {
      const source = createScopedRedis({
        servers: { redisUrl: withoutCredentials(url) },
        credentials,
        manifest,
        ...options,
      });
      sources.add(source);
      return source;
    },
    async bypass({ user, password }) {
      // Of a URL with credentials ioredis takes those, whatever its options say.
      const redis = new Redis(withoutCredentials(url), {
        username: user,
        password,
        enableReadyCheck: false,
        lazyConnect: true,
        retryStrategy: () => null,
        disableClientInfo: true,
      });
      redis.on('error', () => undefined);
      bypasses.push(redis);
      await redis.connect();
      return redis;
    },
    async close() {
      for (const source of sources) await source.close();
      for (const redis of bypasses) redis.disconnect();
      const left = await leftConnections(admin, made);
      for (let i = 0; i < made.length; i += 500) {
        const users = made.slice(i, i + 500).map(({ user }) => user);
        await admin.acl('DELUSER', ...users);
      }
      admin.disconnect();
      // A connection that nobody closed fails the test.
      expect(left).toEqual([]);
    },
  };
  return bench;
}

/** Connections of these tenants that the server still has, after a moment to notice that they are closed. */
async function leftConnections(admin: Redis, tenants: readonly TestTenant[]): Promise<string[]> {
  const users = new Set(tenants.map(({ user }) => user));
  let left: string[] = [];
  for (let attempt = 0; attempt < 40; attempt++) {
    const list = String(await admin.client('LIST'));
    left = list.split('\n').filter((line) => users.has(/ user=(\S+)/.exec(line)?.[1] ?? ''));
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return left;
}

export const scopedOf = (source: ScopedRedisSource, { tenantId }: TestTenant): ScopedRedis =>
  source.forTenant({ tenantId, mode: 'open' });

export const withoutCredentials = (url: string): string => url.replace(/^(rediss?:\/\/)[^@/]*@/, '$1');

export interface OwnRedis {
  readonly server: RunningServer;
  close(): Promise<void>;
}

/**
 * A Redis server that a test may kill.
 * @param twin one whose password it has, as the servers of a fail-over do
 */
export async function startOwnRedis(twin?: RunningServer): Promise<OwnRedis> {
  const directory = await serverFolder('redis');
  if (twin !== undefined) {
    await mkdir(join(directory, 'redis'));
    writePrivate(join(directory, 'redis', 'password'), decodeURIComponent(new URL(twin.url).password));
  }
  const server = await startRedis({ dataDir: directory, report: silentReport, env: ownEnv() });
  return {
    server,
    async close() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Makes a server follow another one, until it has all that the other has. */
export async function follow(server: RunningServer, primary: RunningServer): Promise<void> {
  const { hostname, port, password } = new URL(primary.url);
  const [redis, followed] = [new Redis(server.url), new Redis(primary.url)];
  try {
    // By default it waits five seconds for others that might want to follow it too.
    await followed.config('SET', 'repl-diskless-sync-delay', '0');
    await redis.config('SET', 'masterauth', decodeURIComponent(password));
    await redis.replicaof(hostname, port);
    await until('it has all of it', async () =>
      (await redis.info('replication')).includes('master_link_status:up'),
    );
  } finally {
    redis.disconnect();
    followed.disconnect();
  }
}

/** The follower takes over; whom it followed follows it from here on, as after a fail-over. */
export async function failOver(from: RunningServer, to: RunningServer): Promise<void> {
  const redis = new Redis(to.url);
  try {
    await redis.replicaof('NO', 'ONE');
  } finally {
    redis.disconnect();
  }
  await follow(from, to);
}
