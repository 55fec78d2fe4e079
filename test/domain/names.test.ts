/** What a tenant's resources are called: no two tenants share a name, and no name falls into another's reach. */
import fc from 'fast-check';
import { type TenantId, tenantId } from '../../domain/ids.js';
import * as names from '../../domain/names.js';
import { aclArguments } from '../../tenancy/redis/acl.js';
import { anyText } from '../support/any-text.js';

const id = fc.uuid().map(tenantId);
const two = fc.tuple(id, id).filter(([a, b]) => a !== b);

/** Redis' own glob, as far as an ACL of ours uses it. */
function keyPatternOf(tenant: TenantId): string {
  const [pattern, ...more] = aclArguments(tenant, 'x').filter((rule) => rule.startsWith('~'));
  expect(more).toEqual([]);
  // Only the * at the end may mean something: a tenant must not come to a [, ? or \ in its pattern.
  expect(pattern).toMatch(/^~[^*?[\]\\]+\*$/);
  return (pattern ?? '').slice(1, -1);
}

test('two tenants share no name of any kind', () => {
  const all = (tenant: TenantId): string[] => [
    names.mongoDatabaseName(tenant),
    names.mongoUserName(tenant),
    names.redisUserName(tenant),
    names.redisKeyPrefix(tenant),
    names.redisMarkerKey(tenant),
  ];
  fc.assert(
    fc.property(two, ([a, b]) => {
      const [ours, theirs] = [all(a), all(b)];
      // Also when a server looks at them without regard to case.
      const lower = new Set(ours.map((name) => name.toLowerCase()));
      expect(theirs.filter((name) => lower.has(name.toLowerCase()))).toEqual([]);
    }),
  );
});

test('a name is the same each time it is asked for, so that a retry meets its own work', () => {
  const tenant = tenantId('0190b6a0-1111-7222-8333-444455556666');
  expect([names.mongoDatabaseName(tenant), names.redisMarkerKey(tenant)]).toEqual([
    't_01j2va048he8h86ct48hanask6',
    'tenantry:{0190b6a0-1111-7222-8333-444455556666}:marker',
  ]);
  expect(names.redisKey(tenant, 'cache', 'a')).toBe('t:{0190b6a0-1111-7222-8333-444455556666}:cache:a');
});

test('a database name is one that MongoDB takes', () => {
  fc.assert(fc.property(id, (one) => expect(names.mongoDatabaseName(one)).toMatch(/^t_[a-z0-9]{26}$/)));
});

test('whatever a tenant calls its keys, they stay in its own pattern and out of any other', () => {
  const text = fc.oneof(anyText(), fc.constantFrom('*', '}:', ':', '', '../', '{x}'));
  fc.assert(
    fc.property(two, text, text, ([a, b], namespace, key) => {
      const full = names.redisKey(a, namespace, key);
      expect(full.startsWith(keyPatternOf(a))).toBe(true);
      expect(full.startsWith(keyPatternOf(b))).toBe(false);
    }),
  );
});

test('no key of another tenant can be spelled as a key of ours', () => {
  fc.assert(
    fc.property(two, fc.string(), ([a, b], key) => {
      const attack = `${names.redisKeyPrefix(b)}${key}`;
      expect(names.redisKey(a, attack, attack).startsWith(names.redisKeyPrefix(b))).toBe(false);
    }),
  );
});

test('the marker is outside the pattern of its own tenant and of every other', () => {
  fc.assert(
    fc.property(two, ([a, b]) => {
      for (const tenant of [a, b])
        expect(names.redisMarkerKey(a).startsWith(keyPatternOf(tenant))).toBe(false);
    }),
  );
});

test("all keys of a tenant, with its marker, are in one slot of a cluster: the tenant's id is the hash tag", () => {
  // The cluster specification: what is between the first { and the first } behind it.
  const tag = (key: string): string | undefined => /^[^{]*\{([^}]+)\}/.exec(key)?.[1];
  fc.assert(
    fc.property(id, fc.string(), fc.string(), (one, namespace, key) => {
      expect(tag(names.redisKey(one, namespace, key))).toBe(one);
      expect(tag(names.redisMarkerKey(one))).toBe(one);
    }),
  );
});
