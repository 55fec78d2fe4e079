/** A tenant's present password in a store, out of the credentials that the catalogue gave with it. */
import type { SealedCredential } from '../catalogue/credentials.js';
import type { TenantId } from '../domain/ids.js';
import type { SecretBox } from '../keys/sealed-secret.js';

/**
 * @param credentials the newest of each store
 * @throws Error when there is none for the store, or it does not open
 */
export function openCredential(
  secrets: SecretBox,
  tenantId: TenantId,
  store: 'mongo' | 'redis',
  credentials: readonly SealedCredential[],
): string {
  const credential = credentials.find((one) => one.store === store);
  if (credential === undefined) throw new Error(`no credential of ${store}`);
  return secrets.open(credential.sealed, { tenantId, store, version: credential.version });
}
