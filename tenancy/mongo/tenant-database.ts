/**
 * A tenant's database in MongoDB: made, inspected, removed. Its name holds the whole tenant id, so what has it is
 * ours unless it looks otherwise; every function may be run again, at the same time, and after a crash half-way.
 */
import { type Db, type Document, type MongoClient, MongoServerError } from 'mongodb';
import { canonicalJson } from '../../domain/canonical-json.js';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { MONGO_ROLE, mongoDatabaseName, mongoUserName } from '../../domain/names.js';
import { settled } from '../../domain/settled.js';
import type { Flaw } from '../flaw.js';
import { type CollectionLayout, tenantPrivileges } from './layout.js';

/** Codes of the server: 48 NamespaceExists, 26 NamespaceNotFound, 51002/51003 role/user exists, 31/11 not found. */
const CODE = {
  exists: 48,
  missing: 26,
  roleExists: 51002,
  userExists: 51003,
  noRole: 31,
  noUser: 11,
} as const;

export interface TenantDatabase {
  readonly tenantId: TenantId;
  readonly layouts: readonly CollectionLayout[];
}

interface PresentCollection {
  readonly name: string;
  readonly options?: { readonly validator?: Document };
}

/**
 * Makes role, user, collections and indexes, whichever are missing.
 *
 * @param onUser called as soon as the user can log in, while the collections are still being made.
 * @throws TenantryError NAME_TAKEN when the database holds a collection that Tenantry would not have made.
 */
export async function ensureTenantDatabase(
  admin: MongoClient,
  { tenantId, layouts }: TenantDatabase,
  password: string,
  onUser: () => void = () => undefined,
): Promise<void> {
  const db = admin.db(mongoDatabaseName(tenantId));
  const present = await listCollections(db);
  refuseForeign(present, layouts);
  await settled([
    ensureRole(db, layouts)
      .then(() => ensureUser(db, tenantId, password))
      .then(onUser),
    ...layouts.map((layout) => ensureCollection(db, layout, present)),
  ]);
}

/** What is wrong with the tenant's database by the server's own catalogue; nothing when all is as declared. */
export async function inspectTenantDatabase(
  admin: MongoClient,
  { tenantId, layouts }: TenantDatabase,
): Promise<Flaw | undefined> {
  const db = admin.db(mongoDatabaseName(tenantId));
  const [present, users, roles, ...indexes] = await Promise.all([
    listCollections(db),
    db.command({ usersInfo: mongoUserName(tenantId) }),
    db.command({ rolesInfo: MONGO_ROLE, showPrivileges: true }),
    ...layouts.map(({ name }) => indexNames(db, name)),
  ]);
  const user = (users as { users?: Document[] }).users?.[0];
  const held = (user?.['roles'] ?? []) as { role: string; db: string }[];
  if (held.some(({ role, db: of }) => role !== MONGO_ROLE || of !== db.databaseName))
    return { detail: 'the user has other roles than its own', breach: true };
  // Asked of the role: not every server tells a user's inherited privileges.
  const role = (roles as { roles?: Document[] }).roles?.[0];
  const declared = tenantPrivileges(db.databaseName, layouts);
  const has = grantsOf(role?.['privileges']);
  const due = grantsOf(declared);
  const inherited = (role?.['roles'] ?? []) as unknown[];
  if (inherited.length > 0 || [...has].some((grant) => !due.has(grant)))
    return { detail: 'the role has more privileges than declared', breach: true };

  const wrong = (detail: string): Flaw => ({ detail, breach: false });
  if (user === undefined) return wrong('the user is missing');
  if (held.length === 0) return wrong('the user does not have its role');
  if (has.size < due.size) return wrong('the role has fewer privileges than declared');
  const foreign = present.find((found) => !isDeclared(found, layouts));
  if (foreign !== undefined) return wrong(`collection ${foreign.name} is not as declared`);
  for (const [position, layout] of layouts.entries()) {
    if (!present.some((found) => found.name === layout.name))
      return wrong(`collection ${layout.name} is missing`);
    const missing = layout.indexes.find((index) => indexes[position]?.has(index.name) !== true);
    if (missing !== undefined) return wrong(`index ${missing.name} of ${layout.name} is missing`);
  }
  return undefined;
}

/**
 * Removes what Tenantry made: the role first, which cuts live connections, then the collections, then the user.
 * @returns names of collections that are still there although they are the tenant's, and of those that never were
 */
export async function dropTenantDatabase(
  admin: MongoClient,
  { tenantId, layouts }: TenantDatabase,
): Promise<{ left: string[]; foreign: string[] }> {
  const db = admin.db(mongoDatabaseName(tenantId));
  await tolerate([CODE.noRole], db.command({ dropRole: MONGO_ROLE }));
  const present = await listCollections(db);
  const ours = present.filter((found) => isDeclared(found, layouts));
  const foreign = present.filter((found) => !isDeclared(found, layouts)).map((found) => found.name);
  if (ours.length > 0 && foreign.length === 0) await db.dropDatabase();
  else for (const { name } of ours) await tolerate([CODE.missing], db.command({ drop: name }));
  await tolerate([CODE.noUser], db.command({ dropUser: mongoUserName(tenantId) }));
  const madeSince = async (): Promise<string[]> =>
    (await listCollections(db))
      .map((found) => found.name)
      .filter((name) => !foreign.includes(name) && layouts.some((layout) => layout.name === name));
  // A statement that was let in before the role went had its collection made anew for it, without a validator.
  const anew = await madeSince();
  for (const name of anew) await tolerate([CODE.missing], db.command({ drop: name }));
  return { left: anew.length > 0 ? await madeSince() : [], foreign };
}

/** Whether the user or role of a tenant is there. */
export async function tenantAccess(
  admin: MongoClient,
  tenantId: TenantId,
): Promise<{ user: boolean; role: boolean }> {
  const db = admin.db(mongoDatabaseName(tenantId));
  const [users, roles] = await Promise.all([
    db.command({ usersInfo: mongoUserName(tenantId) }),
    db.command({ rolesInfo: MONGO_ROLE }),
  ]);
  return {
    user: ((users as { users?: unknown[] }).users?.length ?? 0) > 0,
    role: ((roles as { roles?: unknown[] }).roles?.length ?? 0) > 0,
  };
}

async function ensureRole(db: Db, layouts: readonly CollectionLayout[]): Promise<void> {
  const definition = { privileges: tenantPrivileges(db.databaseName, layouts), roles: [] };
  const created = await tolerate([CODE.roleExists], db.command({ createRole: MONGO_ROLE, ...definition }));
  if (!created) await db.command({ updateRole: MONGO_ROLE, ...definition });
}

async function ensureUser(db: Db, tenantId: TenantId, password: string): Promise<void> {
  const name = mongoUserName(tenantId);
  const definition = {
    pwd: password,
    roles: [{ role: MONGO_ROLE, db: db.databaseName }],
    // SHA-1 would double the server's work for a mechanism that no client of ours uses.
    mechanisms: ['SCRAM-SHA-256'],
  };
  const created = await tolerate([CODE.userExists], db.command({ createUser: name, ...definition }));
  if (!created) await db.command({ updateUser: name, ...definition });
}

async function ensureCollection(
  db: Db,
  layout: CollectionLayout,
  present: PresentCollection[],
): Promise<void> {
  if (!present.some((found) => found.name === layout.name)) {
    const created = await tolerate(
      [CODE.exists],
      db.command({ create: layout.name, validator: layout.validator }),
    );
    // Somebody was faster since the list was read: perhaps our own twin, perhaps not.
    if (!created) refuseForeign(await listCollections(db), [layout], [layout.name]);
  }
  if (layout.indexes.length > 0) await db.command({ createIndexes: layout.name, indexes: layout.indexes });
}

/** @param only the names to look at; all by default */
function refuseForeign(
  present: readonly PresentCollection[],
  layouts: readonly CollectionLayout[],
  only?: readonly string[],
): void {
  const foreign = present.find(
    (found) => (only?.includes(found.name) ?? true) && !isDeclared(found, layouts),
  );
  if (foreign !== undefined) throw new TenantryError('NAME_TAKEN', { kind: 'collection', store: 'MongoDB' });
}

/** The validator is our mark: a collection of another shape was not made by us. */
function isDeclared(found: PresentCollection, layouts: readonly CollectionLayout[]): boolean {
  const layout = layouts.find(({ name }) => name === found.name);
  return (
    layout !== undefined && JSON.stringify(found.options?.validator) === JSON.stringify(layout.validator)
  );
}

async function listCollections(db: Db): Promise<PresentCollection[]> {
  const found = await db.listCollections({}, { nameOnly: false }).toArray();
  return found
    .filter(({ name }) => !name.startsWith('system.'))
    .map((info) =>
      'options' in info && info.options ? { name: info.name, options: info.options } : { name: info.name },
    );
}

async function indexNames(db: Db, collection: string): Promise<Set<string>> {
  const result = await db
    .command({ listIndexes: collection })
    .catch((error: unknown) =>
      hasCode(error, [CODE.missing]) ? { cursor: { firstBatch: [] } } : Promise.reject(error),
    );
  const { cursor } = result as { cursor: { firstBatch: { name: string }[] } };
  return new Set(cursor.firstBatch.map((index) => index.name));
}

/** Each action on each resource, in words that can be compared. */
const grantsOf = (privileges: unknown): Set<string> =>
  new Set(
    ((privileges ?? []) as Document[]).flatMap(({ resource, actions }) =>
      (actions as string[]).map((action) => `${action} ${canonicalJson(resource)}`),
    ),
  );

const hasCode = (error: unknown, codes: readonly number[]): boolean =>
  error instanceof MongoServerError && codes.includes(Number(error.code));

/** Whether the command went through; false when it failed with one of the codes that mean "already so". */
async function tolerate(codes: readonly number[], command: Promise<unknown>): Promise<boolean> {
  try {
    await command;
    return true;
  } catch (error) {
    if (hasCode(error, codes)) return false;
    throw error;
  }
}
