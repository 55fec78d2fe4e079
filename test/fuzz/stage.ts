/**
 * Where the fuzzer plays: thousands of tenants made in bulk by what the activities make them with, each with data of its
 * own under names that all of them share, and the data plane as a product opens it.
 */
import { randomBytes } from 'node:crypto';
import type { MongoClient } from 'mongodb';
import pg from 'pg';
import { pino } from 'pino';
import { atOnce } from '../../bench/harness.js';
import type { Catalogue } from '../../catalogue/index.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName, redisKey } from '../../domain/names.js';
import { newPassword, type SecretBox } from '../../keys/sealed-secret.js';
import type { PreparedCell } from '../../tenancy/cell-registry.js';
import type { CellStores } from '../../tenancy/context/entered-tenant.js';
import { openTenantry, productStores, type Tenantry } from '../../tenancy/index.js';
import type { CollectionLayout } from '../../tenancy/mongo/layout.js';
import { dropTenantDatabase, ensureTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { setGates } from '../../tenancy/postgres/gate.js';
import { dropNamespace, ensureNamespaces } from '../../tenancy/redis/namespace.js';
import { type Proxy, proxyTo } from '../api/support/proxy.js';
import { type Random, randomFrom } from './random.js';
import { markOf, type Subject } from './referee.js';

/** A prepared cell and its catalogue. */
export interface Ground {
  readonly catalogue: Catalogue;
  readonly cell: PreparedCell;
  readonly manifest: Manifest;
  readonly layouts: readonly CollectionLayout[];
  readonly secrets: SecretBox;
  readonly rootKey: Buffer;
  readonly resolveSecret: (reference: string) => string;
  readonly lookupUrl: string;
  /** The cell's database, as a superuser. */
  readonly cellAdminUrl: string;
}

export interface StageOptions {
  readonly ground: Ground;
  readonly seed: number;
  readonly tenants: number;
  /** So many of them have a database in MongoDB, whose users take longest to make. */
  readonly mongoTenants: number;
  /** In between the data plane and its stores. */
  readonly around?: (stores: CellStores) => CellStores;
  /** The servers go with it: nothing needs to be removed from them. */
  readonly disposable?: boolean;
}

export interface Stage {
  readonly ground: Ground;
  readonly subjects: readonly Subject[];
  readonly tenantry: Tenantry;
  /** The cell's PostgreSQL as a superuser, for faults. */
  readonly admin: pg.Pool;
  /** In front of MongoDB, for the data plane alone. */
  readonly mongoProxy: Proxy;
  close(): Promise<void>;
}

/** What every tenant has under the same name, and nothing removes. */
export const ANCHOR = {
  id: 'a0000000-0000-4000-8000-000000000000',
  email: 'anchor@example.test',
  key: 'anchor',
} as const;
/** The same ids in every tenant, for rows that come and go. */
export const rowId = (position: number): string =>
  `b0000000-0000-4000-8000-${position.toString(16).padStart(12, '0')}`;

const CHUNK = 500;

export async function setStage(options: StageOptions): Promise<Stage> {
  const { ground, seed, tenants, mongoTenants, around } = options;
  const random = randomFrom(seed);
  const subjects = Array.from({ length: tenants }, (_, index) =>
    newSubject(index, index < mongoTenants, random),
  );
  const admin = new pg.Pool({ connectionString: ground.cellAdminUrl, max: 2 });
  admin.on('error', () => undefined);
  await populate(ground, admin, subjects);
  const mongo = new URL(ground.cell.mongoUrl);
  const mongoProxy = await proxyTo(mongo.hostname, Number(mongo.port));
  mongo.port = String(mongoProxy.port);
  const open = productStores({
    manifest: ground.manifest,
    postgres: { connections: 4, interactive: 8 },
    // Fewer clients than tenants at work, so that some are always evicted.
    mongo: { maxClients: 24, poolSizePerClient: 2 },
    redis: { ownConnections: 16 },
  });
  const tenantry = openTenantry({
    catalogueUrl: ground.lookupUrl,
    rootKey: ground.rootKey,
    signingKeys: { sign: { id: 'fuzz', secret: randomBytes(32) } },
    resolveSecret: ground.resolveSecret,
    log: pino({ level: 'silent' }),
    stores: (...[servers, ...rest]: Parameters<typeof open>) => {
      const stores = open({ ...servers, mongoUrl: mongo.href }, ...rest);
      return around?.(stores) ?? stores;
    },
  });
  await tenantry.listening;
  return {
    ground,
    subjects,
    tenantry,
    admin,
    mongoProxy,
    async close() {
      await tenantry.close();
      await mongoProxy.close();
      if (options.disposable !== true) await strike(ground, subjects);
      await admin.end();
    },
  };
}

function newSubject(index: number, hasMongo: boolean, random: Random): Subject {
  const password = (): { value: string; version: number } => ({ value: newPassword(), version: 1 });
  return {
    index,
    tenantId: random.uuid() as TenantId,
    hasMongo,
    passwords: { mongo: password(), redis: password() },
    generation: 1,
    cuts: {},
    suspensions: 0,
    busy: false,
  };
}

async function populate(ground: Ground, admin: pg.Pool, subjects: readonly Subject[]): Promise<void> {
  const { cell } = ground;
  await inChunks(subjects, async (chunk) => {
    const ids = chunk.map(({ tenantId }) => tenantId);
    await inCatalogue(ground, chunk);
    await setGates(cell.postgres.control, chunk, 'open');
    await inPostgres(admin, ids);
    await ensureNamespaces(
      cell.redis,
      chunk.map(({ tenantId, passwords }) => ({ tenantId, password: passwords.redis.value })),
    );
    const pipeline = cell.redis.pipeline();
    for (const id of ids) pipeline.set(redisKey(id, 'session', ANCHOR.key), markOf(id), 'EX', 86_400);
    await pipeline.exec();
  });
  await atOnce(
    8,
    subjects.filter(({ hasMongo }) => hasMongo),
    ({ tenantId, passwords }) => inMongo(ground, cell.mongo, tenantId, passwords.mongo.value),
  );
}

async function inCatalogue({ catalogue, cell, secrets }: Ground, chunk: readonly Subject[]): Promise<void> {
  const ids = chunk.map(({ tenantId }) => tenantId);
  await catalogue.pool.query(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, mode, generation)
     SELECT id, 'fuzz-' || id, 'Fuzz', 'team', $2, 'active', 'open', 1 FROM unnest($1::uuid[]) AS id`,
    [ids, cell.cell.name],
  );
  for (const store of ['mongo', 'redis'] as const) {
    const sealed = chunk.map(({ tenantId, passwords }) =>
      secrets.seal(passwords[store].value, { tenantId, store, version: 1 }),
    );
    await catalogue.pool.query(
      `INSERT INTO credential (tenant_id, store, version, sealed)
       SELECT id, $3, 1, sealed FROM unnest($1::uuid[], $2::bytea[]) AS made(id, sealed)`,
      [ids, sealed, store],
    );
  }
}

async function inPostgres(admin: pg.Pool, ids: readonly TenantId[]): Promise<void> {
  await admin.query(
    `INSERT INTO app.customers (tenant_id, id, email, name, created_at)
     SELECT id, $2, $3, 'of:' || id, now() FROM unnest($1::uuid[]) AS id`,
    [ids, ANCHOR.id, ANCHOR.email],
  );
  // One that has the tenant's own id, which nobody else has.
  await admin.query(
    `INSERT INTO app.conversations (tenant_id, id, customer_id, subject, open, created_at)
     SELECT id, conversation, $2, 'of:' || id, true, now()
       FROM unnest($1::uuid[]) AS id, LATERAL (VALUES ($2::uuid), (id)) AS made(conversation)`,
    [ids, ANCHOR.id],
  );
}

async function inMongo(
  { layouts }: Ground,
  admin: MongoClient,
  tenantId: TenantId,
  password: string,
): Promise<void> {
  await ensureTenantDatabase(admin, { tenantId, layouts }, password);
  await admin
    .db(mongoDatabaseName(tenantId))
    .collection<{ _id: string }>('transcripts')
    .insertMany(
      [ANCHOR.key, tenantId].map((name) => ({
        _id: name,
        conversationId: 'shared',
        text: markOf(tenantId),
        createdAt: new Date(),
      })),
    );
}

/** The databases of PostgreSQL go as a whole. */
async function strike({ cell, layouts }: Ground, subjects: readonly Subject[]): Promise<void> {
  await atOnce(8, subjects, async ({ tenantId, hasMongo }) => {
    await dropNamespace(cell.redis, tenantId);
    if (hasMongo) await dropTenantDatabase(cell.mongo, { tenantId, layouts });
  });
}

async function inChunks<T>(items: readonly T[], work: (chunk: readonly T[]) => Promise<void>): Promise<void> {
  for (let from = 0; from < items.length; from += CHUNK) await work(items.slice(from, from + CHUNK));
}
