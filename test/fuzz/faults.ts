/**
 * What goes wrong while the actors play: connections killed in each store, tenants suspended and resumed under
 * statements in flight, passwords rotated. Paced by operations and not by time, so that a slow machine sees as many.
 */
import { mongoDatabaseName, mongoUserName, MONGO_ROLE, redisUserName } from '../../domain/names.js';
import { newPassword } from '../../keys/sealed-secret.js';
import { aclArguments } from '../../tenancy/redis/acl.js';
import { tenantPrivileges } from '../../tenancy/mongo/layout.js';
import { setGates } from '../../tenancy/postgres/gate.js';
import type { Way } from './ground.js';
import { playMongo } from './mongo.js';
import { playPostgres } from './postgres.js';
import { type Random, randomFrom } from './random.js';
import { playRedis } from './redis.js';
import { codeOf, type Cut, raise, type Referee, type Subject } from './referee.js';
import { Scene } from './scene.js';
import type { Stage } from './stage.js';

export interface FaultTable {
  readonly stage: Stage;
  readonly referee: Referee;
  readonly random: Random;
  /** The tenants that are busiest: a fault is to meet somebody. */
  readonly hot: readonly Subject[];
  readonly isOver: () => boolean;
  readonly counts: Record<string, number>;
}

/** Operations between two faults. */
const EVERY = 400;

export async function playFaults(table: FaultTable): Promise<void> {
  const { random, referee, counts, isOver } = table;
  const running = new Set<Promise<void>>();
  while (!isOver()) {
    await referee.after(1 + random.below(2 * EVERY));
    if (isOver()) break;
    const { name, strike } = random.weighted(FAULTS);
    const struck = strike(table).then((hit) => {
      if (hit) raise(counts, name);
      running.delete(struck);
    });
    running.add(struck);
    // A suspension lasts while other faults come; what fails here is the fuzzer's own and ends it.
    if (name !== 'suspension') await struck;
    else struck.catch(() => undefined);
  }
  await Promise.all(running);
}

interface Fault {
  readonly name: string;
  readonly weight: number;
  /** Whether there was something to strike. */
  strike(table: FaultTable): Promise<boolean>;
}

const DIRECT: readonly Way[] = ['plain', 'hardened'];
const POOLED: readonly Way[] = ['pooled'];

const FAULTS: readonly Fault[] = [
  { name: 'PostgreSQL backend terminated', weight: 30, strike: (table) => terminate(table, DIRECT, 'one') },
  {
    name: 'all PostgreSQL backends terminated',
    weight: 2,
    strike: (table) => terminate(table, DIRECT, 'all'),
  },
  { name: "PgBouncer's server terminated", weight: 15, strike: (table) => terminate(table, POOLED, 'one') },
  {
    name: "all of PgBouncer's servers terminated",
    weight: 1,
    strike: (table) => terminate(table, POOLED, 'all'),
  },
  { name: "PgBouncer's client cut", weight: 25, strike: async (table) => cutPooled(table, 'one') },
  { name: "all of PgBouncer's clients cut", weight: 2, strike: async (table) => cutPooled(table, 'all') },
  { name: 'Redis connection killed', weight: 25, strike: killRedis },
  { name: 'MongoDB connections cut', weight: 4, strike: cutMongo },
  { name: 'suspension', weight: 60, strike: suspend },
  { name: 'Redis password rotated', weight: 5, strike: rotateRedis },
  { name: 'MongoDB password rotated', weight: 2, strike: rotateMongo },
];

/** In one of the cells. Behind PgBouncer it is whoever's statement the pooler has there just then. */
async function terminate(
  { stage, random }: FaultTable,
  ways: readonly Way[],
  count: 'one' | 'all',
): Promise<boolean> {
  const cells = stage.ground.cells.filter(({ way }) => ways.includes(way));
  if (cells.length === 0) return false;
  const { admin } = random.pick(cells);
  const { rows } = await admin.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'tenantry_runtime' ORDER BY backend_start`,
  );
  const pids = rows.map(({ pid }) => pid);
  if (pids.length === 0) return false;
  await admin.query('SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid', [
    count === 'all' ? pids : [random.pick(pids)],
  ]);
  return true;
}

function cutPooled({ stage }: FaultTable, count: 'one' | 'all'): boolean {
  const link = stage.ground.cells.find(({ way }) => POOLED.includes(way))?.link;
  if (link === undefined) return false;
  if (count === 'one') return link.cutOldest();
  link.cut();
  return true;
}

async function killRedis({ stage, random }: FaultTable): Promise<boolean> {
  const [{ redis }] = stage.ground.cells;
  const ours = new Set(stage.subjects.map(({ tenantId }) => redisUserName(tenantId)));
  const ids = String(await redis.client('LIST'))
    .split('\n')
    .filter((line) => ours.has(/ user=(\S+)/.exec(line)?.[1] ?? ''))
    .flatMap((line) => /^id=(\d+)/.exec(line)?.[1] ?? []);
  if (ids.length === 0) return false;
  await redis.client('KILL', 'ID', random.pick(ids));
  return true;
}

async function cutMongo({ stage }: FaultTable): Promise<boolean> {
  stage.ground.mongoLink.cut();
  return true;
}

/**
 * The catalogue refuses who enters, each store cuts who is in. Somebody is: a job that was let in before goes on, in each
 * store, when all of them have acknowledged.
 */
async function suspend(table: FaultTable): Promise<boolean> {
  const { stage, random, referee, hot } = table;
  const subject = random.pick(hot);
  const other = random.pick(hot.filter((one) => one !== subject && one.cell === subject.cell));
  const mode = random.pick(['blocked', 'read-only'] as const);
  const length = 200 + random.below(2_000);
  const draws = randomFrom(random.below(2 ** 31));
  if (subject.busy) return false;
  subject.busy = true;
  try {
    return await stage.tenantry.runWithTenant(subject.tenantId, async (tenant) => {
      subject.suspensions += 1;
      await cutOff(stage, subject, mode);
      const scene = new Scene(stage, referee, draws, subject, other, tenant);
      await Promise.all([playPostgres(scene), playRedis(scene), subject.hasMongo && playMongo(scene)]);
      await referee.after(length);
      await giveBack(stage, subject);
      subject.suspensions += 1;
      return true;
    });
  } catch (error) {
    // Its last suspension has just ended and is not forgotten everywhere.
    if (codeOf(error) === 'TENANT_SUSPENDED' && subject.suspensions % 2 === 0) return false;
    throw error;
  } finally {
    subject.busy = false;
  }
}

async function cutOff(stage: Stage, subject: Subject, mode: Cut['mode']): Promise<void> {
  const cut: Cut = { mode };
  await Promise.all([
    inCatalogue(stage, subject, 'suspended', mode),
    gate(subject, mode).then(() => (subject.cuts.postgres = cut)),
    acl(subject, mode).then(() => (subject.cuts.redis = cut)),
    role(stage, subject, mode).then((enforced) => {
      if (enforced) subject.cuts.mongo = cut;
    }),
  ]);
}

async function giveBack(stage: Stage, subject: Subject): Promise<void> {
  // Before the first of the stores is asked to give back what it took.
  for (const store of ['postgres', 'redis', 'mongo'] as const) delete subject.cuts[store];
  await Promise.all([gate(subject, 'open'), acl(subject, 'open'), role(stage, subject, 'open')]);
  await inCatalogue(stage, subject, 'active', 'open');
}

async function inCatalogue(stage: Stage, subject: Subject, state: string, mode: string): Promise<void> {
  subject.generation += 1;
  await stage.ground.catalogue.pool.query(
    'UPDATE tenant SET state = $2, mode = $3, generation = $4 WHERE id = $1',
    [subject.tenantId, state, mode, subject.generation],
  );
}

const gate = ({ cell, tenantId, generation }: Subject, mode: Cut['mode'] | 'open') =>
  setGates(cell.postgres.control, [{ tenantId, generation }], mode);

async function acl(subject: Subject, mode: Cut['mode'] | 'open'): Promise<void> {
  const { tenantId, cell, passwords } = subject;
  const rules = mode === 'open' ? [] : [mode === 'blocked' ? '-@all' : '-@write'];
  await cell.redis.acl(
    'SETUSER',
    redisUserName(tenantId),
    ...aclArguments(tenantId, passwords.redis.value),
    ...rules,
  );
}

/** Whether the server holds everybody to it at once. */
async function role({ ground }: Stage, subject: Subject, mode: Cut['mode'] | 'open'): Promise<boolean> {
  if (!subject.hasMongo) return false;
  const database = mongoDatabaseName(subject.tenantId);
  const all = tenantPrivileges(database, ground.layouts);
  const privileges =
    mode === 'open' ? all : mode === 'blocked' ? [] : all.map((one) => ({ ...one, actions: ['find'] }));
  await subject.cell.mongo.db(database).command({ updateRole: MONGO_ROLE, privileges, roles: [] });
  return subject.cell.cell.mongoEnforcement === 'server';
}

async function rotateRedis({ stage, random, hot }: FaultTable): Promise<boolean> {
  const subject = random.pick(hot);
  if (subject.busy) return false;
  subject.busy = true;
  await inCredentials(stage, subject, 'redis', () => acl(subject, 'open'));
  subject.busy = false;
  return true;
}

async function rotateMongo({ stage, random, hot }: FaultTable): Promise<boolean> {
  const subject = random.pick(hot);
  if (subject.busy || !subject.hasMongo) return false;
  subject.busy = true;
  const { tenantId, cell, passwords } = subject;
  await inCredentials(stage, subject, 'mongo', () =>
    cell.mongo.db(mongoDatabaseName(tenantId)).command({
      updateUser: mongoUserName(tenantId),
      pwd: passwords.mongo.value,
      mechanisms: ['SCRAM-SHA-256'],
    }),
  );
  subject.busy = false;
  return true;
}

/** The server first, the catalogue behind it. */
async function inCredentials(
  { ground }: Stage,
  { tenantId, passwords }: Subject,
  store: 'mongo' | 'redis',
  change: () => Promise<unknown>,
): Promise<void> {
  const password = passwords[store];
  password.value = newPassword();
  password.version += 1;
  await change();
  const { version } = password;
  await ground.catalogue.pool.query(
    'INSERT INTO credential (tenant_id, store, version, sealed) VALUES ($1, $2, $3, $4)',
    [tenantId, store, version, ground.secrets.seal(password.value, { tenantId, store, version })],
  );
}
