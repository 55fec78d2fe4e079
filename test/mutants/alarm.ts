/** Mutants of the probes: those that would no longer find that one tenant reaches another, or would not say so. */
import type { Mutant } from './mutant.js';

const BREACH = ['test/faults/breach.test.ts'];
const MONGO_BREACH = ['test/faults/mongo-breach.test.ts'];
const AT_WORK = ['test/isolation-probe/isolation-probe.test.ts'];

export const ALARM_MUTANTS: readonly Mutant[] = [
  {
    name: 'probe: a breach of isolation is tried again',
    file: 'domain/errors.ts',
    find: `ISOLATION_BREACH: {
    status: 500,
    retryable: false,`,
    replace: `ISOLATION_BREACH: {
    status: 500,
    retryable: true,`,
    tests: ['test/domain/errors.test.ts'],
  },
  {
    name: 'probe: a breach does not raise the alarm',
    file: 'worker/breach-alarm.ts',
    find: "counter.inc({ store: params?.store ?? 'unknown' });",
    replace: '',
    tests: AT_WORK,
    named: 'row-level security was switched off',
  },
  {
    name: 'probe: PostgreSQL, rows of another that are seen are passed over',
    file: 'tenancy/postgres/probe.ts',
    find: "answers.find(({ probe, seen }) => probe !== 'own' && seen > 0)",
    replace: "answers.find(({ probe, seen }) => probe === 'own' && seen > 1)",
    tests: BREACH,
    named: 'lets another tenant through row-level security disabled on a table',
  },
  {
    name: 'probe: PostgreSQL, a write for another that is let through is passed over',
    file: 'tenancy/postgres/probe.ts',
    find: "`BEGIN ${statement}; found := found || '${found};'; EXCEPTION ${refusal} END;`",
    replace: '`BEGIN ${statement}; EXCEPTION ${refusal} END;`',
    tests: ['test/isolation-probe/crossing.test.ts'],
  },
  {
    name: 'probe: PostgreSQL, a write that only a reference has stopped counts as refused',
    file: 'tenancy/postgres/probe.ts',
    find: "WHEN foreign_key_violation THEN found := found || 'write ${name};';",
    replace: 'WHEN foreign_key_violation THEN NULL;',
    tests: BREACH,
    named: 'lets another tenant through another policy by which any row is inserted',
  },
  {
    name: 'probe: PostgreSQL, policies that do not read the gate are passed over',
    file: 'tenancy/postgres/row-security.ts',
    find: 'AND (pg_get_expr(p.polqual, p.polrelid) !~ ${policy}',
    replace: 'AND (false',
    tests: BREACH,
    named: 'lets another tenant through another policy by which all rows are (changed|deleted)',
  },
  {
    name: 'probe: PostgreSQL, row-level security that is not forced is passed over',
    file: 'tenancy/postgres/row-security.ts',
    find: 'NOT (c.relrowsecurity AND c.relforcerowsecurity)',
    replace: 'NOT c.relrowsecurity',
    tests: AT_WORK,
    named: 'not forced',
  },
  {
    name: 'probe: PostgreSQL, tenants at work, rows of another that are seen are passed over',
    file: 'tenancy/postgres/crossing.ts',
    find: "'${table}' AS target, 1 AS seen\n          WHERE EXISTS",
    replace: "'${table}' AS target, 1 AS seen\n          WHERE false AND EXISTS",
    tests: ['test/isolation-probe/crossing.test.ts'],
  },
  {
    name: 'probe: MongoDB, what the server lets through counts as refused',
    file: 'tenancy/mongo/probe.ts',
    find: "throw new TenantryError('ISOLATION_BREACH', { store: 'MongoDB', probe: name });",
    replace: 'return `code ${REFUSED}`;',
    tests: MONGO_BREACH,
    named: 'lets another tenant through the canary may read the tenant',
  },
  {
    name: 'probe: MongoDB, tenants at work, a read that went through is passed over',
    file: 'tenancy/mongo/crossing.ts',
    find: '.then(() => false, isRefusal);',
    replace: '.then(() => true, isRefusal);',
    tests: AT_WORK,
    named: 'finds a MongoDB user',
  },
  {
    name: 'probe: MongoDB, privileges beyond those declared are passed over',
    file: 'tenancy/mongo/tenant-database.ts',
    find: 'if (inherited.length > 0 || [...has].some((grant) => !due.has(grant)))',
    replace: 'if (inherited.length > 0)',
    tests: MONGO_BREACH,
    named: "what a batch's look into MongoDB",
  },
  {
    name: 'probe: Redis, what the server lets through counts as refused',
    file: 'tenancy/redis/probe.ts',
    find: "throw new TenantryError('ISOLATION_BREACH', { store: 'Redis', probe });",
    replace: "return 'NOPERM';",
    tests: BREACH,
    named: 'lets another tenant through .*(Redis|key)',
  },
  {
    name: 'probe: Redis, tenants at work, a read that went through is passed over',
    file: 'tenancy/redis/crossing.ts',
    find: 'if (theirs[0] === null)\n',
    replace: 'if (theirs[0] === null && theirs[1] === undefined)\n',
    tests: AT_WORK,
    named: 'finds a Redis user',
  },
];
