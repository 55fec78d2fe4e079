/**
 * What a MongoDB server enforces, found out by trying: two throwaway databases with a user each, and every way known
 * to us from the one to the other. A server's name or version is never asked.
 */
import { randomBytes } from 'node:crypto';
import { type Db, type Document, Long, MongoClient, MongoServerError } from 'mongodb';
import type { EnforcementTrial } from '../../catalogue/cells.js';
import { settled } from '../../domain/settled.js';
import { newPassword } from '../../keys/sealed-secret.js';

const PREFIX = 'tenantry_trial_';
/** A trial that died may have left its databases; those older than this belong to nobody. Milliseconds. */
const ABANDONED_AFTER = 10 * 60_000;

/**
 * 13 Unauthorized, 18 AuthenticationFailed, 59 CommandNotFound, 391 ReauthenticationRequired, 8000 Atlas' refusal, 50738 a
 * cursor of another's session (which a user cannot name, as its id holds a hash of who opened it).
 */
const REFUSALS = new Set([13, 18, 59, 391, 8000, 50738]);

interface Party {
  readonly db: string;
  readonly user: string;
  readonly password: string;
}

/** When it was is told by a clock that all workers share: see the cells' registry. */
export type Tried = Omit<EnforcementTrial, 'triedAt'>;

/**
 * @param admin may make databases, users and roles
 * @param mongoUrl the server, without credentials
 * @throws when the server cannot be reached, or cannot make users at all
 */
export async function tryEnforcement(admin: MongoClient, mongoUrl: string): Promise<Tried> {
  const now = await clockOf(admin);
  await removeAbandoned(admin, now);
  const run = `${now.toString(36)}_${randomBytes(4).toString('hex')}`;
  const [a, b] = [party(`${PREFIX}${run}_a`), party(`${PREFIX}${run}_b`)];
  const [asA, asB, asNobody] = [
    clientOf(mongoUrl, a),
    clientOf(mongoUrl, b),
    new MongoClient(mongoUrl, CLIENT),
  ];
  try {
    await settled([makeParty(admin, a), makeParty(admin, b)]);
    // Both are in before anything is tried: on a server that lets one change the other's password, a login that fails
    // later would look like a refusal.
    await Promise.all([
      asA.db(a.db).collection('own').findOne({}),
      asB.db(b.db).collection('own').findOne({}),
    ]);
    const answers: [name: string, refused: boolean][] = [];
    for (const [name, attempt] of attempts(asA, asB, asNobody, a, b))
      answers.push([name, await isRefused(attempt)]);
    for (const [name, attempt] of await liveCuts(admin, asA, asB, a, b))
      answers.push([name, await isRefused(attempt)]);
    const names = (wanted: boolean): string[] =>
      answers.filter(([, was]) => was === wanted).map(([name]) => name);
    return {
      server: await serverSays(admin),
      refused: names(true),
      notRefused: names(false),
    };
  } finally {
    await Promise.all([asA.close(), asB.close(), asNobody.close()]);
    await settled([removeParty(admin, a.db), removeParty(admin, b.db)]);
  }
}

type Attempt = [name: string, attempt: () => Promise<unknown>];

/** `own` and `closed` are collections in both databases; the role of each party is for `own` alone. */
function attempts(asA: MongoClient, asB: MongoClient, asNobody: MongoClient, a: Party, b: Party): Attempt[] {
  const [mine, theirs] = [asA.db(a.db), asA.db(b.db)];
  const command = (db: Db, document: Document) => () => db.command(document);
  const pipeline =
    (...stages: Document[]) =>
    () =>
      mine.collection('own').aggregate(stages).toArray();
  return [
    ['find without a login', () => asNobody.db(b.db).collection('own').findOne({})],
    ["find in another's database", () => theirs.collection('own').findOne({})],
    ["insert into another's database", () => theirs.collection('own').insertOne({ stolen: true })],
    [
      "update in another's database",
      () => theirs.collection('own').updateOne({}, { $set: { stolen: true } }),
    ],
    ["delete in another's database", () => theirs.collection('own').deleteOne({ never: true })],
    ["aggregate in another's database", () => theirs.collection('own').aggregate([]).toArray()],
    ["list another's collections", () => theirs.listCollections().toArray()],
    ["drop another's collection", command(theirs, { drop: 'closed' })],
    ['create a user', command(mine, { createUser: 'mine', pwd: 'mine', roles: [] })],
    ["change another's password", command(theirs, { updateUser: b.user, pwd: 'mine' })],
    [
      "grant oneself another's role",
      command(mine, { grantRolesToUser: a.user, roles: [{ role: 'trial', db: b.db }] }),
    ],
    ["$out into another's database", pipeline({ $out: { db: b.db, coll: 'own' } })],
    ["$merge into another's database", pipeline({ $merge: { into: { db: b.db, coll: 'own' } } })],
    ['find in an undeclared collection', () => mine.collection('closed').findOne({})],
    ['insert into an undeclared collection', () => mine.collection('closed').insertOne({ stolen: true })],
    [
      '$lookup in an undeclared collection',
      pipeline({ $lookup: { from: 'closed', pipeline: [], as: 'stolen' } }),
    ],
    ['$unionWith an undeclared collection', pipeline({ $unionWith: 'closed' })],
    [
      '$graphLookup in an undeclared collection',
      pipeline({
        $graphLookup: {
          from: 'closed',
          startWith: '$_id',
          connectFromField: '_id',
          connectToField: '_id',
          as: 'x',
        },
      }),
    ],
    ["bulkWrite into another's database", () => bulkWriteAcross(asA, b)],
    ["getMore on another's cursor", () => readCursorOf(asA, asB, b)],
  ];
}

/** The server may answer with success and an error inside. */
async function bulkWriteAcross(asA: MongoClient, b: Party): Promise<void> {
  const answer = await asA.db('admin').command({
    bulkWrite: 1,
    ops: [{ insert: 0, document: { stolen: true } }],
    nsInfo: [{ ns: `${b.db}.own` }],
  });
  if (answer['nErrors'] !== undefined && Number(answer['nErrors']) > 0) {
    const cursor = answer['cursor'] as { firstBatch?: { code?: number }[] } | undefined;
    throw new MongoServerError({ message: 'refused inside', code: cursor?.firstBatch?.[0]?.code ?? 13 });
  }
}

async function readCursorOf(asA: MongoClient, asB: MongoClient, b: Party): Promise<void> {
  const opened = await asB.db(b.db).command({ find: 'own', batchSize: 1 });
  const id = (opened['cursor'] as { id: Long | number | bigint }).id;
  const cursorId = Long.isLong(id) ? id : Long.fromString(String(id));
  try {
    await asA.db(b.db).command({ getMore: cursorId, collection: 'own' });
  } finally {
    await asB
      .db(b.db)
      .command({ killCursors: 'own', cursors: [cursorId] })
      .catch(() => undefined);
  }
}

/** Rights that are taken away must be felt by connections that are already open: how a suspension cuts. */
async function liveCuts(
  admin: MongoClient,
  asA: MongoClient,
  asB: MongoClient,
  a: Party,
  b: Party,
): Promise<Attempt[]> {
  const [ownOfA, ownOfB] = [asA.db(a.db).collection('own'), asB.db(b.db).collection('own')];
  await Promise.all([ownOfA.findOne({}), ownOfB.findOne({})]);
  return [
    [
      'find on a live connection after updateRole took it',
      async () => {
        await admin.db(a.db).command({ updateRole: 'trial', privileges: [] });
        return ownOfA.findOne({});
      },
    ],
    [
      'find on a live connection after the user was dropped',
      async () => {
        await admin.db(b.db).command({ dropUser: b.user });
        return ownOfB.findOne({});
      },
    ],
  ];
}

async function isRefused(attempt: () => Promise<unknown>): Promise<boolean> {
  try {
    await attempt();
    return false;
  } catch (error) {
    if (error instanceof MongoServerError && REFUSALS.has(Number(error.code))) return true;
    throw error;
  }
}

const party = (db: string): Party => ({ db, user: `user_${db}`, password: newPassword() });

async function makeParty(admin: MongoClient, { db: name, user, password }: Party): Promise<void> {
  const db = admin.db(name);
  await db.collection('own').insertMany([{ secret: 1 }, { secret: 2 }, { secret: 3 }]);
  await db.collection('closed').insertOne({ secret: 1 });
  const actions = ['find', 'insert', 'update', 'remove'];
  await db.command({
    createRole: 'trial',
    privileges: [{ resource: { db: name, collection: 'own' }, actions }],
    roles: [],
  });
  await db.command({
    createUser: user,
    pwd: password,
    roles: [{ role: 'trial', db: name }],
    mechanisms: ['SCRAM-SHA-256'],
  });
}

async function removeParty(admin: MongoClient, name: string): Promise<void> {
  const db = admin.db(name);
  await db.command({ dropAllUsersFromDatabase: 1 });
  await db.command({ dropAllRolesFromDatabase: 1 });
  await db.dropDatabase();
}

async function removeAbandoned(admin: MongoClient, now: number): Promise<void> {
  const { databases } = await admin
    .db('admin')
    .admin()
    .listDatabases({ nameOnly: true, filter: { name: { $regex: `^${PREFIX}` } } });
  for (const { name } of databases) {
    const startedAt = Number.parseInt(name.slice(PREFIX.length).split('_')[0] ?? '', 36);
    if (now - startedAt > ABANDONED_AFTER) await removeParty(admin, name);
  }
}

/**
 * The server's clock, in milliseconds, which is the same for all who try it. By clocks that differ, one would remove another's
 * databases during its trial, and that would look like refusals.
 */
async function clockOf(admin: MongoClient): Promise<number> {
  const { localTime } = await admin.db('admin').command({ hello: 1 });
  return (localTime instanceof Date ? localTime : new Date()).getTime();
}

async function serverSays(admin: MongoClient): Promise<string> {
  const info = await admin.db('admin').command({ buildInfo: 1 });
  return String(info['version'] ?? 'unknown');
}

const CLIENT = {
  appName: 'tenantry-trial',
  maxPoolSize: 1,
  serverSelectionTimeoutMS: 5_000,
  socketTimeoutMS: 10_000,
};

const clientOf = (mongoUrl: string, { db, user, password }: Party): MongoClient =>
  new MongoClient(mongoUrl, {
    ...CLIENT,
    auth: { username: user, password },
    authSource: db,
    authMechanism: 'SCRAM-SHA-256',
  });

/**
 * Whether a probe as another tenant can mean anything here: on a server that lets everybody in (the cell's operator
 * chose `guard`) the answer is known, and the evidence says it instead.
 */
export function canMongoBeProbedAcross(trial: EnforcementTrial | null): boolean {
  const needed = ['find without a login', "find in another's database", "delete in another's database"];
  return trial !== null && needed.every((name) => trial.refused.includes(name));
}
