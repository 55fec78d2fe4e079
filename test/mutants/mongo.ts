/** Mutants of MongoDB's side: the server's privileges, whose client it is, and the guard in front of them. */
import type { Mutant } from './mutant.js';

const GUARD = ['test/data-plane/mongo/guard.test.ts'];
const PROPERTIES = ['test/data-plane/mongo/guard-properties.test.ts'];
const LAYOUT = ['test/tenancy/layout.test.ts'];
const HANDED_ON = ['test/data-plane/mongo/handed-on.test.ts'];
const COLLECTION = ['test/data-plane/mongo/collection.test.ts'];

const UNDECLARED_NAME =
  "if (typeof name !== 'string' || !own.collections.has(name)) throw UNDECLARED();\n      return name;";

export const MONGO_MUTANTS: readonly Mutant[] = [
  {
    name: 'MongoDB: the role is for its whole database',
    file: 'tenancy/mongo/layout.ts',
    find: 'resource: { db: database, collection: name }',
    replace: "resource: { db: database, collection: name && '' }",
    tests: LAYOUT,
  },
  {
    name: 'MongoDB: the role is for the collections of every database',
    file: 'tenancy/mongo/layout.ts',
    find: 'resource: { db: database, collection: name }',
    replace: "resource: { db: database && '', collection: name }",
    tests: LAYOUT,
  },
  {
    name: 'MongoDB: the role may drop its collections',
    file: 'tenancy/mongo/layout.ts',
    find: "actions: ['find', 'insert', 'update', 'remove']",
    replace: "actions: ['find', 'insert', 'update', 'remove', 'dropCollection']",
    tests: LAYOUT,
  },
  {
    name: 'MongoDB: the user has a role that reads every database',
    file: 'tenancy/mongo/tenant-database.ts',
    find: 'roles: [{ role: MONGO_ROLE, db: db.databaseName }],',
    replace: "roles: [{ role: MONGO_ROLE, db: db.databaseName }, { role: 'readAnyDatabase', db: 'admin' }],",
    tests: ['test/data-plane/mongo/tenant-database.test.ts'],
  },
  {
    name: "MongoDB: a tenant that has no client gets another tenant's",
    file: 'tenancy/mongo/client-pool.ts',
    find: 'const seat = seats.get(tenantId) ?? newSeat(tenantId);',
    replace: `const seat =
        seats.get(tenantId) ?? [...seats.values()].find(({ state }) => state === 'ready') ?? newSeat(tenantId);`,
    tests: COLLECTION,
  },
  {
    name: 'MongoDB: a client is handed on with its connections still logged in',
    file: 'tenancy/mongo/user-switch.ts',
    find: '[...loggedIn].map((connection) => hangUp(connection, hangUpMs))',
    replace: '[]',
    tests: HANDED_ON,
  },
  {
    name: 'MongoDB: a connection is opened before the server has seen the end of the one in whose place it comes',
    file: 'tenancy/mongo/hang-up.ts',
    find: 'socket.destroy = () => socket;',
    replace: '',
    tests: ['test/data-plane/mongo/hang-up.test.ts'],
  },
  {
    name: 'MongoDB: a client that is handed on logs in as who had it before',
    file: 'tenancy/mongo/user-switch.ts',
    find: 'user = next;',
    replace: 'user = first ?? next;',
    tests: HANDED_ON,
  },
  {
    name: 'MongoDB: a client whose login was refused is handed on',
    file: 'tenancy/mongo/client-pool.ts',
    find: 'doubted.add(seat.tenantId);\n        seat.spoilt = true;',
    replace: 'doubted.add(seat.tenantId);',
    tests: HANDED_ON,
  },
  {
    name: 'MongoDB: a server that does not know the password is believed',
    file: 'tenancy/mongo/scram.ts',
    find: 'said.length !== signature.length || !timingSafeEqual(said, signature)',
    replace: 'said.length !== signature.length',
    tests: ['test/data-plane/mongo/scram.test.ts'],
  },
  {
    name: 'MongoDB: a context that may only read writes',
    file: 'tenancy/mongo/statement-runner.ts',
    find: "if (write && context.mode === 'read-only')",
    replace: "if (!write && context.mode === 'read-only')",
    tests: COLLECTION,
    named: 'may only read',
  },
  {
    name: 'MongoDB: a collection shows what it works with',
    file: 'tenancy/mongo/scoped-collection.ts',
    find: '#parts',
    times: 26,
    replace: 'parts',
    tests: ['test/data-plane/mongo/reachable.test.ts'],
  },
  {
    name: 'guard: any collection is taken',
    file: 'tenancy/mongo/guard.ts',
    find: UNDECLARED_NAME,
    replace: 'return name as string;',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: $lookup from anywhere',
    file: 'tenancy/mongo/guard.ts',
    find: "'pipeline', 'as']);\n    checkSource(from, own);",
    replace: "'pipeline', 'as']);",
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: the pipeline in a $lookup is not read',
    file: 'tenancy/mongo/guard.ts',
    find: '    checkSource(from, own);\n    if (pipeline !== undefined) checkPipeline(pipeline, own);',
    replace: '    checkSource(from, own);',
    // In the other the outer pipeline has something foreign as well.
    tests: PROPERTIES,
  },
  {
    name: 'guard: $graphLookup from anywhere',
    file: 'tenancy/mongo/guard.ts',
    find: "'restrictSearchWithMatch',\n    ]);\n    checkSource(from, own);",
    replace: "'restrictSearchWithMatch',\n    ]);",
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: $unionWith another database',
    file: 'tenancy/mongo/guard.ts',
    find: 'checkSource(db === undefined ? coll : { db, coll }, own);',
    replace: 'checkSource(coll, own);',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: the pipeline in a $unionWith is not read',
    file: 'tenancy/mongo/guard.ts',
    find: '{ db, coll }, own);\n    if (pipeline !== undefined) checkPipeline(pipeline, own);',
    replace: '{ db, coll }, own);',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: the pipelines in a $facet are not read',
    file: 'tenancy/mongo/guard.ts',
    find: "for (const pipeline of Object.values(plainObject(spec, '$facet'))) checkPipeline(pipeline, own);",
    replace: '',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: $out to anywhere',
    file: 'tenancy/mongo/guard.ts',
    find: '$out: (spec, own) => checkSource(spec, own),',
    replace: '$out: () => undefined,',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: $merge into anywhere',
    file: 'tenancy/mongo/guard.ts',
    find: 'checkSource(into, own);',
    replace: '',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: a collection of that name in any database',
    file: 'tenancy/mongo/guard.ts',
    find: "if (db !== own.database) throw refused('another database');",
    replace: '',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: stages that nobody knows',
    file: 'tenancy/mongo/guard.ts',
    find: "if (check === undefined) throw refused('a stage that is not taken here');",
    replace: 'if (check === undefined) continue;',
    tests: GUARD,
    named: 'with the guard',
  },
  {
    name: 'guard: options that nobody knows',
    file: 'tenancy/mongo/guard.ts',
    find: "if (kind === undefined) throw refused('an option that is not taken here');",
    replace: 'if (kind === undefined) { copy[name] = given[name]; continue; }',
    tests: PROPERTIES,
  },
  ...(['$where', '$function', '$accumulator'] as const).map(
    (code): Mutant => ({
      name: `guard: ${code} runs code in the server`,
      file: 'tenancy/mongo/read-once.ts',
      find: `'${code}'`,
      replace: "'$nothing'",
      tests: GUARD,
      named: 'with the guard',
    }),
  ),
  {
    name: 'guard: what toBSON would send is not looked at',
    file: 'tenancy/mongo/read-once.ts',
    find: "if (typeof toBSON === 'function') return read(toBSON.call(value) as unknown, reading, depth + 1);",
    replace: "if (typeof toBSON === 'function') return value;",
    tests: PROPERTIES,
  },
  {
    name: 'guard: code as a BSON value',
    file: 'tenancy/mongo/read-once.ts',
    find: "throw refused('a BSON value of a kind that is not taken');",
    replace: 'return value;',
    tests: PROPERTIES,
  },
  {
    name: 'guard: what was looked at is not what is sent',
    file: 'tenancy/mongo/read-once.ts',
    find: 'return read(value, { kind, left: MAX_VALUES }, 0);',
    replace: 'read(value, { kind, left: MAX_VALUES }, 0);\n  return value;',
    tests: PROPERTIES,
  },
];
