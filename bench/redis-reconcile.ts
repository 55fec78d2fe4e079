// How long a Redis that has forgotten everything is without its tenants' users: the reconciler, with the catalogue that
// it reads in a PostgreSQL of its own and the passwords sealed in it.

import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import pg from 'pg';
import { bootstrap, postgresUrl } from '../catalogue/bootstrap.js';
import { openCatalogue } from '../catalogue/index.js';
import { migrateCatalogue } from '../catalogue/migrate.js';
import { cellName, type TenantId } from '../domain/ids.js';
import { redisUserName } from '../domain/names.js';
import { createSecretBox, type SecretBox } from '../keys/sealed-secret.js';
import { reconcileNamespaces } from '../tenancy/redis/reconcile.js';
import { timed } from './harness.js';
import { newPasswords } from './postgres-cell.js';

export interface ReconcileOptions {
  /** As a superuser. */
  readonly postgresUrl: string;
  /** As an administrator; everything in it is removed. */
  readonly redis: Redis;
  readonly passwords: ReadonlyMap<TenantId, string>;
  readonly rounds: number;
}

const DATABASE = 'tenantry_bench_reconcile';
const CELL = cellName('default');

/** @returns milliseconds of each round */
export async function measureReconcile(options: ReconcileOptions): Promise<number[]> {
  const { redis, passwords, rounds } = options;
  const roles = newPasswords();
  await bootstrap({
    adminUrl: options.postgresUrl,
    passwords: roles,
    controlDatabase: DATABASE,
    cellDatabase: DATABASE,
  });
  await migrateCatalogue(postgresUrl(options.postgresUrl, DATABASE, 'owner', roles));
  const secrets = createSecretBox(randomBytes(32));
  await fill(postgresUrl(options.postgresUrl, DATABASE), passwords, secrets);
  const catalogue = openCatalogue({
    url: postgresUrl(options.postgresUrl, DATABASE, 'catalogue', roles),
    name: 'tenantry-bench',
  });
  const users = [...passwords.keys()].map((id) => redisUserName(id));
  const samples: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      await redis.flushall();
      for (let i = 0; i < users.length; i += 1_000) await redis.acl('DELUSER', ...users.slice(i, i + 1_000));
      samples.push(
        await timed(async () => {
          const done = await reconcileNamespaces(catalogue, secrets, redis, CELL);
          if (done.users !== users.length || done.markers !== users.length)
            throw new Error('not all were made');
        }),
      );
    }
  } finally {
    await catalogue.close();
  }
  return samples;
}

/** The rows that a provisioning leaves behind, as far as Redis goes. */
async function fill(
  url: string,
  passwords: ReadonlyMap<TenantId, string>,
  secrets: SecretBox,
): Promise<void> {
  const ids = [...passwords.keys()];
  const sealed = ids.map((tenantId) =>
    secrets.seal(passwords.get(tenantId) ?? '', { tenantId, store: 'redis', version: 1 }),
  );
  const admin = new pg.Client({ connectionString: url, options: '-c search_path=tenantry' });
  await admin.connect();
  try {
    await admin.query(
      `INSERT INTO cell (name, postgres_owner, postgres_control, postgres_runtime, postgres_purge, mongo, redis,
                         mongo_enforcement, capacity)
       VALUES ($1, '', '', '', '', '', '', 'server', 1000000)`,
      [CELL],
    );
    await admin.query(
      `INSERT INTO tenant (id, slug, name, plan, cell, state, generation)
       SELECT id, 't' || id, 'Bench', 'team', $2, 'active', 1 FROM unnest($1::uuid[]) AS id`,
      [ids, CELL],
    );
    await admin.query(
      `INSERT INTO allocation (tenant_id, store, kind, name, state, spec_hash, generation)
       SELECT id, 'redis', 'acl-user', name, 'verified', '', 1 FROM unnest($1::uuid[], $2::text[]) AS u(id, name)`,
      [ids, ids.map((id) => redisUserName(id))],
    );
    await admin.query(
      `INSERT INTO credential (tenant_id, store, version, sealed)
       SELECT id, 'redis', 1, sealed FROM unnest($1::uuid[], $2::bytea[]) AS c(id, sealed)`,
      [ids, sealed],
    );
    await admin.query('ANALYZE');
  } finally {
    await admin.end();
  }
}
