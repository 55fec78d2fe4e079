/** From one tenant at work to another's database: reading must be refused by the server. Nothing is written. */
import { MongoServerError } from 'mongodb';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { openTenantClient } from './tenant-client.js';

/** Unauthorized */
const REFUSED = 13;

/** @throws TenantryError ISOLATION_BREACH when the read went through */
export async function crossMongo(
  mongoUrl: string,
  manifest: Manifest,
  as: { readonly tenantId: TenantId; readonly password: string },
  target: TenantId,
): Promise<void> {
  const collections = Object.keys(manifest.mongo.collections);
  const client = openTenantClient(mongoUrl, as.tenantId, as.password);
  try {
    const [own, theirs] = [client.db(mongoDatabaseName(as.tenantId)), client.db(mongoDatabaseName(target))];
    // Its own first: a user that is refused everywhere would prove nothing.
    for (const name of collections.slice(0, 1)) await own.collection(name).findOne({});
    for (const name of collections) {
      const refused = await theirs
        .collection(name)
        .findOne({})
        .then(() => false, isRefusal);
      if (!refused) throw new TenantryError('ISOLATION_BREACH', { store: 'MongoDB', probe: `read ${name}` });
    }
  } finally {
    await client.close();
  }
}

/** @throws what is no refusal */
function isRefusal(error: unknown): true {
  if (error instanceof MongoServerError && error.code === REFUSED) return true;
  throw error;
}
