/**
 * Where the fuzzer plays: thousands of tenants made in bulk by what the activities make them with, each with data of its
 * own under names that all of them share, and the data plane as a product opens it.
 */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { pino } from 'pino';
import { atOnce } from '../../bench/harness.js';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName, redisKey } from '../../domain/names.js';
import { newPassword } from '../../keys/sealed-secret.js';
import type { CellStores } from '../../tenancy/context/entered-tenant.js';
import { openTenantry, productStores, type Tenantry } from '../../tenancy/index.js';
import { dropTenantDatabase, ensureTenantDatabase } from '../../tenancy/mongo/tenant-database.js';
import { setGates } from '../../tenancy/postgres/gate.js';
import { dropNamespace, ensureNamespaces } from '../../tenancy/redis/namespace.js';
import type { Cell, Ground } from './ground.js';
import { type Random, randomFrom } from './random.js';
import { markOf, type Subject } from './referee.js';

export interface StageOptions {
  readonly ground: Ground;
  readonly seed: number;
  readonly tenants: number;
  /** So many of them have a database in MongoDB, whose users take longest to make. */
  readonly mongoTenants: number;
  /** In between the data plane and a cell's stores. */
  readonly around?: (stores: CellStores) => CellStores;
  /** The servers go with it: nothing needs to be removed from them. */
  readonly disposable?: boolean;
}

export interface Stage {
  readonly ground: Ground;
  readonly subjects: readonly Subject[];
  readonly tenantry: Tenantry;
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
  const { cells } = ground;
  const random = randomFrom(seed);
  const subjects = Array.from({ length: tenants }, (_, index) =>
    // The cells in turn, so that each has its share of the busiest and of those with a database in MongoDB.
    newSubject(index, cells[index % cells.length] ?? cells[0], index < mongoTenants, random),
  );
  await populate(ground, subjects);
  const tenantry = openTenantry({
    catalogueUrl: ground.lookupUrl,
    rootKey: ground.rootKey,
    signingKeys: { sign: { id: 'fuzz', secret: randomBytes(32) } },
    resolveSecret: ground.resolveSecret,
    log: pino({ level: 'silent' }),
    stores: (...asked) => {
      const cell = cells.find((one) => one.cell.name === asked[0].name) ?? cells[0];
      const stores = storesOf(cell)(...asked);
      return around?.(stores) ?? stores;
    },
  });
  await tenantry.listening;
  return {
    ground,
    subjects,
    tenantry,
    async close() {
      await tenantry.close();
      if (options.disposable !== true) await strike(ground, subjects);
    },
  };
}

const storesOf = ({ manifest, prepares }: Cell) =>
  productStores({
    manifest,
    postgres: { connections: 4, interactive: 8, prepare: prepares },
    // Fewer clients than tenants at work, so that some are always evicted.
    mongo: { maxClients: 16, poolSizePerClient: 2 },
    redis: { ownConnections: 6 },
  });

function newSubject(index: number, cell: Cell, hasMongo: boolean, random: Random): Subject {
  const password = (): { value: string; version: number } => ({ value: newPassword(), version: 1 });
  return {
    index,
    tenantId: random.uuid() as TenantId,
    cell,
    hasMongo,
    passwords: { mongo: password(), redis: password() },
    generation: 1,
    cuts: {},
    suspensions: 0,
    busy: false,
  };
}

async function populate(ground: Ground, subjects: readonly Subject[]): Promise<void> {
  for (const cell of ground.cells) {
    const here = subjects.filter((subject) => subject.cell === cell);
    for (let from = 0; from < here.length; from += CHUNK)
      await populateCell(ground, cell, here.slice(from, from + CHUNK));
  }
  await atOnce(
    8,
    subjects.filter(({ hasMongo }) => hasMongo),
    (subject) => inMongo(ground, subject),
  );
}

async function populateCell(ground: Ground, cell: Cell, chunk: readonly Subject[]): Promise<void> {
  const ids = chunk.map(({ tenantId }) => tenantId);
  await inCatalogue(ground, cell, chunk);
  await setGates(cell.postgres.control, chunk, 'open');
  await inPostgres(cell.admin, ids);
  await ensureNamespaces(
    cell.redis,
    chunk.map(({ tenantId, passwords }) => ({ tenantId, password: passwords.redis.value })),
  );
  const pipeline = cell.redis.pipeline();
  for (const id of ids) pipeline.set(redisKey(id, 'session', ANCHOR.key), markOf(id), 'EX', 86_400);
  await pipeline.exec();
}

async function inCatalogue(
  { catalogue, secrets }: Ground,
  { cell }: Cell,
  chunk: readonly Subject[],
): Promise<void> {
  const ids = chunk.map(({ tenantId }) => tenantId);
  await catalogue.pool.query(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, mode, generation)
     SELECT id, 'fuzz-' || id, 'Fuzz', 'team', $2, 'active', 'open', 1 FROM unnest($1::uuid[]) AS id`,
    [ids, cell.name],
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

async function inMongo({ layouts }: Ground, { tenantId, cell, passwords }: Subject): Promise<void> {
  await ensureTenantDatabase(cell.mongo, { tenantId, layouts }, passwords.mongo.value);
  await cell.mongo
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
async function strike({ layouts }: Ground, subjects: readonly Subject[]): Promise<void> {
  await atOnce(8, subjects, async ({ tenantId, cell, hasMongo }) => {
    await dropNamespace(cell.redis, tenantId);
    if (hasMongo) await dropTenantDatabase(cell.mongo, { tenantId, layouts });
  });
}
