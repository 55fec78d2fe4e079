/** The rules of a tenant's Redis user: one prefix, one password, and nothing that looks around. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { tenantId } from '../../domain/ids.js';
import { newPassword } from '../../keys/sealed-secret.js';
import { ACL_RULES, aclArguments, passwordHash } from '../../tenancy/redis/acl.js';
import { anyText } from '../support/any-text.js';

const id = fc.uuid().map(tenantId);
const password = fc.oneof(anyText(), fc.constant('x').map(newPassword));

test('whatever was there before is forgotten first', () => {
  fc.assert(
    fc.property(id, password, (tenant, secret) => {
      const rules = aclArguments(tenant, secret);
      expect(rules.indexOf('reset')).toBe(0);
      expect(rules.filter((rule) => rule === 'on')).toEqual(['on']);
    }),
  );
});

test('the password is there as its SHA-256 alone', () => {
  fc.assert(
    fc.property(id, password, (tenant, secret) => {
      const expected = createHash('sha256').update(secret, 'utf8').digest('hex');
      expect(passwordHash(secret)).toBe(expected);
      const rules = aclArguments(tenant, secret);
      // > would be a password in the clear, nopass none at all.
      expect(rules.filter((rule) => /^[#>]|^nopass$/.test(rule))).toEqual([`#${expected}`]);
      if (secret.length > 8) expect(rules.join(' ')).not.toContain(secret);
    }),
  );
});

test('keys and channels are those of the tenant, each by one pattern', () => {
  fc.assert(
    fc.property(id, password, (tenant, secret) => {
      const rules = aclArguments(tenant, secret);
      expect(rules.filter((rule) => /^[~%&]|^all(keys|channels)$/.test(rule))).toEqual([
        `~t:{${tenant}}:*`,
        `&t:{${tenant}}:*`,
      ]);
    }),
  );
});

test('no argument holds a space, so none is two rules', () => {
  fc.assert(
    fc.property(id, password, (tenant, secret) => {
      for (const rule of aclArguments(tenant, secret)) expect(rule).toMatch(/^\S+$/);
    }),
  );
});

test('what is taken away is taken away last, so that no category gives it back', () => {
  const given = ACL_RULES.findLastIndex((rule) => rule.startsWith('+@'));
  const taken = ACL_RULES.findIndex((rule) => rule.startsWith('-'));
  expect(given).toBeGreaterThanOrEqual(0);
  expect(given).toBeLessThan(taken);
  expect(ACL_RULES).not.toContain('+@all');
  // Behind that comes a command by its name alone.
  expect(ACL_RULES.slice(taken).filter((rule) => rule.startsWith('+'))).toEqual(['+xread']);
  for (const rule of ['-@blocking', '-@dangerous', '-@admin', '-@scripting', '-keys', '-scan', '-randomkey'])
    expect(ACL_RULES).toContain(rule);
});
