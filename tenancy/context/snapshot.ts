/**
 * A tenant's context as signed text, to be handed on: to a job queue, to a workflow. It names ids and versions alone.
 *
 * `tc1.<key id>.<claims>.<MAC>`, the claims as canonical JSON in base64url. HMAC-SHA-256 covers the format, the key's
 * id, the purpose and the claims as they stand in the text. The purpose is not in the text: who restores says for what,
 * and a text that was signed for something else has the wrong MAC.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { canonicalJson } from '../../domain/canonical-json.js';
import { TenantryError } from '../../domain/errors.js';
import { isUuid, type OperationId, type TenantId } from '../../domain/ids.js';
import type { TenantContext } from './tenant-context.js';

export interface SigningKey {
  /** Letters, digits, `-` and `_`; at most 32. */
  readonly id: string;
  /** 32 bytes or more. */
  readonly secret: Buffer;
}

/**
 * One key signs; the others are only verified with. To rotate: first add the new one to `verify` everywhere, then let it
 * sign, and take the old one out when the last text that it signed has expired: for a workflow when it has ended or gone on as
 * new, for a schedule when it was deleted and made again.
 */
export interface SigningKeys {
  readonly sign: SigningKey;
  readonly verify?: readonly SigningKey[];
}

/**
 * A function is asked at each signing and verifying, so that keys are replaced without a restart. What it returns is looked
 * through once for each object, which must not be changed afterwards.
 */
export type SigningKeySource = SigningKeys | (() => SigningKeys);

export interface Claims {
  readonly tenant: TenantId;
  readonly generation: number;
  readonly policyVersion: number;
  readonly keyVersion: number;
  readonly correlationId: string;
  readonly principal?: string;
  readonly operation?: OperationId;
  readonly traceparent?: string;
  /** Milliseconds since 1970. */
  readonly issuedAt: number;
  /** Without it, it must be bound to something that ends. */
  readonly expiresAt?: number;
  /** What it is bound to, beyond its purpose. */
  readonly boundTo?: string;
}

export interface Signer {
  sign(purpose: string, claims: Claims): string;
  /** @throws TenantryError CONTEXT_REFUSED with the reason, never the text */
  verify(purpose: string, text: unknown): Claims;
}

const MAX_SNAPSHOT_LENGTH = 4_096;
/** Clocks of two machines may differ by this much. Milliseconds. */
export const CLOCK_SKEW = 60_000;

/** @throws TypeError of keys that are none, now and whenever they are replaced */
export function createSigner(source: SigningKeySource, now: () => number = Date.now): Signer {
  const current = typeof source === 'function' ? source : () => source;
  let keys = current();
  let known = knownOf(keys);
  const look = (): ReadonlyMap<string, Buffer> => {
    const newest = current();
    if (newest !== keys) [known, keys] = [knownOf(newest), newest];
    return known;
  };
  return {
    sign(purpose, claims) {
      // The first of them signs.
      const [[id, secret]] = look() as unknown as [[string, Buffer]];
      const body = Buffer.from(canonicalJson(claims)).toString('base64url');
      const text = `${FORMAT}.${id}.${body}.${mac(secret, id, purpose, body).toString('base64url')}`;
      if (text.length > MAX_SNAPSHOT_LENGTH) throw new TypeError('the context is too large to be handed on');
      return text;
    },
    verify(purpose, text) {
      // A job that was put into its queue without one has none.
      if (typeof text !== 'string') throw refused('there is none');
      if (text.length > MAX_SNAPSHOT_LENGTH) throw refused('it is too long');
      const [format, id = '', body = '', given = '', ...more] = text.split('.');
      if (format !== FORMAT || more.length > 0) throw refused('it is not one of ours');
      const secret = look().get(id);
      if (secret === undefined) throw refused('its key is not known');
      const expected = mac(secret, id, purpose, body).toString('base64url');
      // As texts: base64url has several spellings of the same bytes. Both sides have one length by then.
      if (
        given.length !== expected.length ||
        !timingSafeEqual(Buffer.from(given, 'latin1'), Buffer.from(expected))
      )
        throw refused('its signature is wrong');
      const claims = claimsIn(body);
      if (claims.issuedAt > now() + CLOCK_SKEW) throw refused('it comes from the future');
      if (claims.expiresAt !== undefined && claims.expiresAt <= now()) throw refused('it has expired');
      return claims;
    },
  };
}

/** By id, the one that signs first. Copies: whoever clears a secret that it has handed over would have nothing sign. */
function knownOf({ sign, verify = [] }: SigningKeys): Map<string, Buffer> {
  const known = new Map<string, Buffer>();
  for (const { id, secret } of [sign, ...verify]) {
    if (!KEY_ID.test(id)) throw new TypeError('the id of a signing key is not valid');
    if (secret.length < 32) throw new TypeError('a signing key must have 32 bytes or more');
    if (known.get(id)?.equals(secret) === false) throw new TypeError(`two signing keys are called ${id}`);
    known.set(id, Buffer.from(secret));
  }
  return known;
}

/** What is handed on of a context. Baggage and roles stay behind: they hold words. */
export function claimsOf(context: TenantContext): Omit<Claims, 'issuedAt'> {
  return {
    tenant: context.tenantId,
    generation: context.generation,
    policyVersion: context.policyVersion,
    keyVersion: context.keyVersion,
    correlationId: context.correlationId,
    ...(context.principal === undefined ? {} : { principal: context.principal.id }),
    ...(context.operationId === undefined ? {} : { operation: context.operationId }),
    ...(context.traceparent === undefined ? {} : { traceparent: context.traceparent }),
  };
}

export const refused = (reason: string, cause?: unknown): TenantryError =>
  new TenantryError('CONTEXT_REFUSED', { reason }, { cause });

const FORMAT = 'tc1';
const KEY_ID = /^[A-Za-z0-9_-]{1,32}$/;

const mac = (secret: Buffer, id: string, purpose: string, body: string): Buffer =>
  createHmac('sha256', secret).update(`tenantry/context\n${FORMAT}\n${id}\n${purpose}\n${body}`).digest();

/** Signed by one of ours; the shape is checked all the same, since a newer version may have signed it. */
function claimsIn(body: string): Claims {
  const parsed: unknown = JSON.parse(Buffer.from(body, 'base64url').toString('utf8'));
  const claims = parsed as Claims;
  if (
    !isUuid(claims.tenant) ||
    !Number.isFinite(claims.issuedAt) ||
    // Of anything but a number it could not be said that it has passed.
    (claims.expiresAt !== undefined && !Number.isFinite(claims.expiresAt)) ||
    typeof claims.correlationId !== 'string'
  )
    throw refused('it is not one of ours');
  return claims;
}
