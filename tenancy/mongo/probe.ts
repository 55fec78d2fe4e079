/**
 * The probe of a tenant in MongoDB: as the tenant's own user it writes, reads and removes a document in every
 * collection; as another tenant's user both reading and writing there must be refused by the server, and so must the
 * tenant in the other's database.
 */
import { type Collection, type MongoClient, MongoServerError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { settled } from '../../domain/settled.js';
import { breachFirst } from '../flaw.js';
import { probeDocument } from './layout.js';

export interface MongoEvidence {
  readonly wroteAndRead: readonly string[];
  /** What the server answered to each attempt to cross; undefined when there was no other tenant to try as. */
  readonly refused: Readonly<Record<string, string>> | undefined;
}

export interface ProbedTenant {
  readonly tenantId: TenantId;
  readonly client: MongoClient;
}

/** Unauthorized */
const REFUSED = 13;
/** DuplicateKey, DocumentValidationFailure: what a server says of a write that it would have let through. */
const LET_THROUGH = new Set([11_000, 121]);

/** A way from one tenant to another, by the name under which the trial of a server tried it. */
export type Crossing =
  | "find in another's database"
  | "insert into another's database"
  | "update in another's database"
  | "delete in another's database";

export async function probeMongo(
  manifest: Manifest,
  tenant: ProbedTenant,
  other: (ProbedTenant & { readonly canBeRefused: (crossing: Crossing) => boolean }) | undefined,
): Promise<MongoEvidence> {
  const collections = Object.keys(manifest.mongo.collections);
  const own = tenant.client.db(mongoDatabaseName(tenant.tenantId));
  const id = `tenantry-probe-${tenant.tenantId}`;
  for (const name of collections)
    await writeAndRead(own.collection(name), probeDocument(manifest, name, id) as { _id: string });
  const refused = other === undefined ? undefined : await probeCrossing(manifest, tenant, other, id);
  for (const name of collections) await own.collection<{ _id: string }>(name).deleteOne({ _id: id });
  return { wroteAndRead: collections, refused };
}

/** Another attempt at the same may remove the document in between, for it is its own as well. */
const TRIES = 3;

async function writeAndRead(
  collection: Collection<{ _id: string }>,
  document: { readonly _id: string },
): Promise<void> {
  const { _id } = document;
  for (let i = 0; i < TRIES; i++) {
    // Replaced, not inserted: an attempt that died here left it behind.
    await collection.replaceOne({ _id }, document, { upsert: true });
    if ((await collection.findOne({ _id })) !== null) return;
  }
  const detail = `no document in ${collection.collectionName}`;
  throw new TenantryError('VERIFICATION_FAILED', { store: 'MongoDB', detail });
}

async function probeCrossing(
  manifest: Manifest,
  tenant: ProbedTenant,
  other: ProbedTenant & { readonly canBeRefused: (crossing: Crossing) => boolean },
  id: string,
): Promise<Record<string, string>> {
  const collections = Object.keys(manifest.mongo.collections);
  const theirs = other.client.db(mongoDatabaseName(tenant.tenantId));
  const foreign = tenant.client.db(mongoDatabaseName(other.tenantId));
  const first = collections[0] ?? 'none';
  const target = theirs.collection<{ _id: string }>(first);
  const attempts: [name: string, crossing: Crossing, attempt: () => Promise<unknown>][] = [
    ...collections.map((name): [string, Crossing, () => Promise<unknown>] => [
      `other reads ${name}`,
      "find in another's database",
      () => theirs.collection<{ _id: string }>(name).findOne({ _id: id }),
    ]),
    [
      `other inserts in ${first}`,
      "insert into another's database",
      () => target.insertOne(probeDocument(manifest, first, id) as { _id: string }),
    ],
    [
      `other updates in ${first}`,
      "update in another's database",
      () => target.updateOne({ _id: id }, { $set: { stolen: true } }),
    ],
    [`other removes in ${first}`, "delete in another's database", () => target.deleteOne({ _id: id })],
    ...collections.map((name): [string, Crossing, () => Promise<unknown>] => [
      `tenant reads the other's ${name}`,
      "find in another's database",
      () => foreign.collection(name).findOne({}),
    ]),
    [
      `tenant removes in the other's ${first}`,
      "delete in another's database",
      () => foreign.collection<{ _id: string }>(first).deleteOne({ _id: id }),
    ],
  ];
  const answers = await settled(
    attempts
      .filter(([, crossing]) => other.canBeRefused(crossing))
      .map(
        async ([name, , attempt]): Promise<[string, string]> => [name, await expectRefusal(name, attempt)],
      ),
    breachFirst,
  );
  return Object.fromEntries(answers);
}

async function expectRefusal(name: string, attempt: () => Promise<unknown>): Promise<string> {
  try {
    await attempt();
  } catch (error) {
    const code = error instanceof MongoServerError ? Number(error.code) : undefined;
    if (code === REFUSED) return `code ${REFUSED}`;
    if (code === undefined || !LET_THROUGH.has(code)) throw error;
  }
  throw new TenantryError('ISOLATION_BREACH', { store: 'MongoDB', probe: name });
}
