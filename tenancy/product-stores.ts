/** The stores of a cell as a product's process has them: each reached as the tenant of the moment and in no other way. */
import type { Manifest } from '../domain/manifest.js';
import type { ContextKey } from '../keys/context-key.js';
import type { CellServers, TenantCredentials } from './context/cell-servers.js';
import type { CellStores } from './context/entered-tenant.js';
import { createScopedMongo, type ScopedMongoOptions } from './mongo/scoped.js';
import type { AskAccess } from './mongo/statement-runner.js';
import { createScopedPostgres, type ScopedPostgresOptions } from './postgres/scoped.js';
import { createScopedRedis, type ScopedRedisOptions } from './redis/scoped.js';

export interface ProductStoresOptions {
  readonly manifest: Manifest;
  /** Bounds and time-outs, of each cell. */
  readonly postgres?: Omit<ScopedPostgresOptions, 'url' | 'hardened'>;
  readonly mongo?: Omit<ScopedMongoOptions, 'servers' | 'credentials' | 'manifest'>;
  readonly redis?: Omit<ScopedRedisOptions, 'servers' | 'credentials' | 'manifest'>;
}

/** For `openTenantry`. */
export const productStores =
  ({ manifest, ...options }: ProductStoresOptions) =>
  (
    servers: CellServers,
    credentials: TenantCredentials,
    contextKey?: () => ContextKey,
    askAccess?: AskAccess,
  ): CellStores => {
    const pg = createScopedPostgres({
      ...options.postgres,
      url: servers.postgresUrl,
      hardened: manifest.postgres.hardened ? { key: contextKey ?? missingKey } : undefined,
    });
    const mongo = createScopedMongo({ askAccess, ...options.mongo, servers, credentials, manifest });
    const redis = createScopedRedis({ ...options.redis, servers, credentials, manifest });
    return {
      pg,
      mongo,
      redis,
      async close() {
        await Promise.all([pg.close(), mongo.close(), redis.close()]);
      },
    };
  };

const missingKey = (): never => {
  throw new TypeError(
    'the manifest says `postgres.hardened`: productStores needs the context key that it is given',
  );
};
