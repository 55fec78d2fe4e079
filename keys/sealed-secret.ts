/**
 * Seals a tenant's store passwords for the catalogue: AES-256-GCM under the root key. The place that a secret
 * belongs to is bound as additional data, so a sealed password moved to another tenant, store or version does not
 * open. Layout: format 1 | nonce 12 | tag 16 | ciphertext.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { TenantId } from '../domain/ids.js';
import type { StoreName } from '../domain/operation.js';

const FORMAT = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface SecretPlace {
  readonly tenantId: TenantId;
  readonly store: StoreName;
  readonly version: number;
}

export interface SecretBox {
  seal(secret: string, place: SecretPlace): Buffer;
  /** @throws Error when the bytes were altered, belong to another place, or were sealed under another key. */
  open(sealed: Buffer, place: SecretPlace): string;
}

/** @param rootKey 32 bytes */
export function createSecretBox(rootKey: Buffer): SecretBox {
  if (rootKey.length !== 32) throw new TypeError('the root key must be 32 bytes');
  return {
    seal(secret, place) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', rootKey, nonce).setAAD(additionalData(place));
      const ciphertext = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
      return Buffer.concat([Buffer.of(FORMAT), nonce, cipher.getAuthTag(), ciphertext]);
    },
    open(sealed, place) {
      if (sealed[0] !== FORMAT || sealed.length < 1 + NONCE_BYTES + TAG_BYTES)
        throw new Error('not a sealed secret');
      const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
      const tag = sealed.subarray(1 + NONCE_BYTES, 1 + NONCE_BYTES + TAG_BYTES);
      const decipher = createDecipheriv('aes-256-gcm', rootKey, nonce, { authTagLength: TAG_BYTES })
        .setAAD(additionalData(place))
        .setAuthTag(tag);
      const text = decipher.update(sealed.subarray(1 + NONCE_BYTES + TAG_BYTES));
      return Buffer.concat([text, decipher.final()]).toString('utf8');
    },
  };
}

/** A fresh password: 192 random bits, in characters that need no escaping in a URL or an ACL rule. */
export const newPassword = (): string => randomBytes(24).toString('base64url');

const additionalData = ({ tenantId, store, version }: SecretPlace): Buffer =>
  Buffer.from(`tenantry/credential/1/${tenantId}/${store}/${version}`);
