/** A namespace's keys, as the product writes them and as they are on the wire. */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { redisKey } from '../../domain/names.js';

/** Longer ones are a mistake: Redis keeps each in memory whole. */
export const MAX_KEY_BYTES = 32 * 1024;

/** There without being declared; a declaration of the same name replaces it. */
const BUILT_IN = { session: {}, cache: {}, rate: {} } as const satisfies Manifest['redis']['namespaces'];

type NamespaceSpec = Manifest['redis']['namespaces'][string];

export interface Keys extends NamespaceSpec {
  readonly namespace: string;
  /** @throws TenantryError STATEMENT_REFUSED */
  wire(key: string): string;
  /** The key that `wire` was given. */
  plain(wireKey: string): string;
}

/** @throws TenantryError STATEMENT_REFUSED of a namespace that nobody declared */
export function keysOf(manifest: Manifest, tenantId: TenantId, namespace: string): Keys {
  if (typeof namespace !== 'string') throw refusedStatement("a namespace's name is not a string");
  const spec = specOf(manifest, namespace);
  const prefix = redisKey(tenantId, namespace, '');
  return {
    ...spec,
    namespace,
    wire(key) {
      refuseOtherThanText(key);
      // Two different ones would become the same bytes.
      if (/\p{Surrogate}/u.test(key)) throw refusedStatement('a key is not well-formed Unicode');
      if (Buffer.byteLength(key) > MAX_KEY_BYTES) throw refusedStatement('a key is too long');
      return prefix + key;
    },
    plain(wireKey) {
      if (!wireKey.startsWith(prefix))
        throw new TenantryError('ISOLATION_BREACH', {
          store: 'Redis',
          probe: 'a key of elsewhere came back',
        });
      return wireKey.slice(prefix.length);
    },
  };
}

/** Its type holds at compile time only: a query parameter may be an array. */
export function refuseOtherThanText(key: unknown): asserts key is string {
  if (typeof key !== 'string') throw refusedStatement('a key is not a string');
}

export const refusedStatement = (reason: string): TenantryError =>
  new TenantryError('STATEMENT_REFUSED', { store: 'Redis', reason });

function specOf({ redis }: Manifest, namespace: string): NamespaceSpec {
  if (Object.hasOwn(redis.namespaces, namespace)) return redis.namespaces[namespace] as NamespaceSpec;
  if (Object.hasOwn(BUILT_IN, namespace)) return BUILT_IN[namespace as keyof typeof BUILT_IN];
  throw refusedStatement('the manifest declares no such namespace');
}
