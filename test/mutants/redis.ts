/** Mutants of Redis' side: the ACL of a tenant's user, the prefix before it, and who a shared connection is. */
import type { Mutant } from './mutant.js';

const ISOLATION = ['test/data-plane/redis/isolation.test.ts'];
const KEYS = ['test/data-plane/redis/keys.test.ts'];
const ACL = ['test/tenancy/redis-acl.test.ts'];
const BY_PASSED = { tests: ISOLATION, named: 'by-passed', ownServer: 'redis' } as const;
const RULES = 'tenancy/redis/acl.ts';

const without = (rule: string): Mutant => ({
  name: `Redis: the user's rules do not have ${rule}`,
  file: RULES,
  find: ` ${rule} `,
  replace: ' ',
  ...BY_PASSED,
});

export const REDIS_MUTANTS: readonly Mutant[] = [
  {
    name: 'Redis: the prefix alone, and no pattern of keys behind it',
    file: RULES,
    find: '`~${prefix}*`',
    replace: "'~*'",
    ...BY_PASSED,
  },
  {
    name: "Redis: any tenant's channels",
    file: RULES,
    find: '`&${prefix}*`',
    replace: "'&*'",
    tests: ACL,
  },
  {
    name: 'Redis: what a user was allowed before stays',
    file: RULES,
    find: "'reset', 'on',",
    replace: "'on',",
    tests: ACL,
  },
  {
    name: 'Redis: a user needs no password',
    file: RULES,
    find: '`#${passwordHash(password)}`',
    replace: "'nopass'",
    tests: ISOLATION,
    named: 'behind a login that failed',
    ownServer: 'redis',
  },
  {
    name: 'Redis: users may run scripts',
    file: RULES,
    find: '-@scripting',
    replace: '+@scripting',
    ...BY_PASSED,
  },
  without('-@dangerous'),
  without('-scan'),
  without('-move'),
  without('-copy'),
  without('-@blocking'),
  {
    name: 'Redis: users may change the connection for whoever has it next',
    file: RULES,
    find: ' +multi ',
    replace: ' +@connection +@transaction +multi ',
    ...BY_PASSED,
  },
  {
    name: 'Redis: keys go out without the prefix',
    file: 'tenancy/redis/keys.ts',
    find: 'return prefix + key;',
    replace: 'return key;',
    tests: KEYS,
  },
  {
    name: 'Redis: a prefix that is two namespaces’',
    file: 'tenancy/redis/keys.ts',
    find: "const prefix = redisKey(tenantId, namespace, '');",
    replace: "const prefix = redisKey(tenantId, 'cache', '');",
    tests: KEYS,
  },
  {
    name: 'Redis: one command forgets the prefix',
    file: 'tenancy/redis/commands.ts',
    find: "args: ['EXISTS', ...names.map((key) => keys.wire(key))]",
    replace: "args: ['EXISTS', ...names]",
    tests: KEYS,
  },
  {
    name: 'Redis: a key that is no string',
    file: 'tenancy/redis/keys.ts',
    find: "if (typeof key !== 'string') throw refusedStatement('a key is not a string');",
    replace: '',
    tests: KEYS,
  },
  {
    name: 'Redis: two keys that are the same bytes',
    file: 'tenancy/redis/keys.ts',
    find: "if (/\\p{Surrogate}/u.test(key)) throw refusedStatement('a key is not well-formed Unicode');",
    replace: '',
    tests: KEYS,
  },
  {
    name: 'Redis: a key of elsewhere is handed out',
    file: 'tenancy/redis/keys.ts',
    find: 'if (!wireKey.startsWith(prefix))',
    replace: "if (!wireKey.startsWith(''))",
    tests: KEYS,
  },
  {
    name: 'Redis: a namespace that nobody declared',
    file: 'tenancy/redis/keys.ts',
    find: "throw refusedStatement('the manifest declares no such namespace');",
    replace: 'return {};',
    tests: [...KEYS, 'test/data-plane/redis/commands.test.ts'],
  },
  {
    name: 'Redis: a context that may only read writes',
    file: 'tenancy/redis/scoped.ts',
    find: "if (!isRead && mode === 'read-only')",
    replace: 'if (!isRead && mode === undefined)',
    tests: ['test/data-plane/redis/commands.test.ts'],
  },
  {
    name: 'Redis: commands go out without their AUTH',
    file: 'tenancy/redis/lane.ts',
    find: 'if (this.login?.account !== account || this.login.error !== undefined) {',
    replace: 'if (this.login === undefined) {',
    tests: ISOLATION,
  },
  {
    name: 'Redis: what came behind a login that failed is handed out',
    file: 'tenancy/redis/lane.ts',
    find: 'const error = head.login?.error;',
    replace: 'const error = undefined as Error | undefined;',
    tests: ISOLATION,
  },
  {
    name: 'Redis: a connection whose first login was refused goes on as the default user',
    file: 'tenancy/redis/lane.ts',
    find: 'if (!(reply instanceof ReplyError)) {',
    replace: 'if (reply !== undefined) {',
    tests: ISOLATION,
    named: 'runs nothing as it',
  },
  {
    name: 'Redis: the answer to AUTH is not looked at',
    file: 'tenancy/redis/lane.ts',
    find: "if (reply === 'OK') return;",
    replace: 'if (reply !== undefined) return;',
    tests: ISOLATION,
  },
  {
    name: 'Redis: what was lost is sent again whatever it was',
    file: 'tenancy/redis/lanes.ts',
    find: 'if (waiting.request.repeatable && waiting.losses === 1',
    replace: 'if (waiting.losses === 1',
    tests: ['test/data-plane/redis/connections.test.ts'],
    named: 'has run once',
  },
];
