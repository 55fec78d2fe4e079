/** Mutants of PostgreSQL's side: the policies, how a tenant is entered, which statements may run, the roles. */
import type { Mutant } from './mutant.js';

const at = (name: string): readonly string[] => [`test/data-plane/postgres/${name}.test.ts`];
const SCOPED = at('scoped');
const LEAKS = at('leaks');
const GATE = { tests: at('outages'), named: 'gate closes' } as const;
const HARDENED = at('hardened');
const POLICIES = at('policies');
const SCHEMA = 'tenancy/postgres/product-schema.ts';
const CONTEXT = 'tenancy/postgres/context-sql.ts';

const SCHEMA_MUTANTS: readonly Mutant[] = [
  {
    name: 'PostgreSQL: row-level security is not enabled',
    file: SCHEMA,
    find: 'ALTER TABLE ${target} ENABLE ROW LEVEL SECURITY;',
    replace: '',
    tests: SCOPED,
  },
  {
    name: 'PostgreSQL: row-level security is not forced',
    file: SCHEMA,
    find: 'ALTER TABLE ${target} FORCE ROW LEVEL SECURITY;',
    replace: '',
    tests: LEAKS,
    named: 'a view',
  },
  {
    name: 'PostgreSQL: any row is read',
    file: SCHEMA,
    find: 'FOR SELECT TO tenantry_runtime USING (tenant_id = ${READABLE})',
    replace: 'FOR SELECT TO tenantry_runtime USING (${READABLE} IS NOT NULL)',
    tests: SCOPED,
  },
  {
    name: 'PostgreSQL: a row of any tenant is inserted',
    file: SCHEMA,
    find: 'FOR INSERT TO tenantry_runtime WITH CHECK (tenant_id = ${WRITABLE})',
    replace: 'FOR INSERT TO tenantry_runtime WITH CHECK (${WRITABLE} IS NOT NULL)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: rows of any tenant are changed',
    file: SCHEMA,
    find: 'FOR UPDATE TO tenantry_runtime USING (tenant_id = ${READABLE})',
    replace: 'FOR UPDATE TO tenantry_runtime USING (${READABLE} IS NOT NULL)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: a row is handed over to another tenant',
    file: SCHEMA,
    find: '(tenant_id = ${READABLE}) WITH CHECK (tenant_id = ${WRITABLE})',
    replace: '(tenant_id = ${READABLE}) WITH CHECK (${WRITABLE} IS NOT NULL)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: rows of any tenant are deleted',
    file: SCHEMA,
    find: 'FOR DELETE TO tenantry_runtime USING (tenant_id = ${WRITABLE})',
    replace: 'FOR DELETE TO tenantry_runtime USING (${WRITABLE} IS NOT NULL)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: the purge reads any row',
    file: SCHEMA,
    find: 'FOR SELECT TO tenantry_purge USING (tenant_id = ${PURGEABLE})',
    replace: 'FOR SELECT TO tenantry_purge USING (true)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: the purge deletes any row',
    file: SCHEMA,
    find: 'FOR DELETE TO tenantry_purge USING (tenant_id = ${PURGEABLE})',
    replace: 'FOR DELETE TO tenantry_purge USING (true)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: the purge erases a tenant whose gate is open',
    file: SCHEMA,
    find: "admitted(`'purging'`)",
    replace: "admitted(`'open', 'purging'`)",
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: policies do not ask the gate',
    file: SCHEMA,
    find: '  `(SELECT g.tenant_id FROM tenantry.gate g WHERE g.tenant_id = ${CONTEXT} AND g.mode IN (${modes}))`;',
    replace: "  modes === '' ? '' : CONTEXT;",
    ...GATE,
  },
  {
    name: 'PostgreSQL: a gate that is read-only lets write',
    file: SCHEMA,
    find: "admitted(`'open'`)",
    replace: "admitted(`'open', 'read-only'`)",
    ...GATE,
  },
  {
    name: 'PostgreSQL: any gate is seen',
    file: SCHEMA,
    find: 'USING (tenant_id = ${hardened ? VERIFIED : CONTEXT})',
    replace: 'USING (true)',
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: without a context nothing is seen, and nothing is said (missing_ok)',
    file: SCHEMA,
    find: "current_setting('${TENANT_SETTING}')::uuid",
    replace: "nullif(current_setting('${TENANT_SETTING}', true), '')::uuid",
    tests: LEAKS,
    named: 'the planner leaves it out',
  },
  {
    name: 'PostgreSQL: a primary key that is not the tenant’s own',
    file: SCHEMA,
    find: '`PRIMARY KEY (${list(table.primaryKey)})`,',
    replace:
      '`UNIQUE (${list(table.primaryKey)}), PRIMARY KEY (${table.primaryKey.map(escapeIdentifier).join()})`,',
    tests: at('tenant-first'),
  },
  {
    name: 'PostgreSQL: a unique key over all tenants',
    file: SCHEMA,
    find: '`UNIQUE (${list(columns)})`',
    replace: '`UNIQUE (${columns.map(escapeIdentifier).join()})`',
    tests: LEAKS,
    named: 'a key',
  },
  {
    name: 'PostgreSQL: a reference to another tenant’s row',
    file: SCHEMA,
    find: '...table.references.map(',
    replace: '...table.references.slice(table.references.length).map(',
    tests: LEAKS,
    named: 'a key',
  },
];

const ENTER_MUTANTS: readonly Mutant[] = [
  {
    name: 'PostgreSQL: the context is the session’s and not the transaction’s',
    file: CONTEXT,
    find: "set_config('${TENANT_SETTING}', ${tenant}, true);${also}",
    replace: "set_config('${TENANT_SETTING}', ${tenant}, false);${also}",
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: the context of a statement alone is the session’s',
    file: CONTEXT,
    find: "set_config('${TENANT_SETTING}', ${tenant}, true);\n    ELSIF",
    replace: "set_config('${TENANT_SETTING}', ${tenant}, false);\n    ELSIF",
    tests: POLICIES,
  },
  {
    name: 'PostgreSQL: another tenant is entered in the same transaction',
    file: CONTEXT,
    find: "IF entered IS NULL OR entered OPERATOR(pg_catalog.=) '' THEN",
    replace: 'IF true THEN',
    tests: LEAKS,
  },
  {
    name: 'PostgreSQL: another tenant is entered by what enters one alone',
    file: CONTEXT,
    find: "IF coalesce(pg_catalog.current_setting('${TENANT_SETTING}', true), '') OPERATOR(pg_catalog.=) '' THEN",
    replace: 'IF true THEN',
    tests: LEAKS,
  },
  {
    name: 'PostgreSQL: a connection with a tenant left behind is used again',
    file: 'tenancy/postgres/connection.ts',
    find: 'if (group.entering && isOurs(error, SQLSTATE.otherTenant)) this.destroy();',
    replace: '',
    tests: LEAKS,
    named: 'somebody left behind',
  },
  {
    name: 'PostgreSQL: a statement goes out without its tenant',
    file: 'tenancy/postgres/scoped.ts',
    find: 'connection.run(ahead, statement, whole)',
    times: 1,
    replace: 'connection.run(ahead.slice(ahead.length), statement, whole)',
    tests: [...SCOPED, ...LEAKS],
  },
  {
    name: 'PostgreSQL: the tenant is entered in a transaction of its own, before the statement’s',
    file: 'tenancy/postgres/wire.ts',
    find: 'writeStep(bytes, at, step, RUN)',
    replace: 'writeStep(bytes, at, step, RUN_AND_SYNC)',
    tests: [...SCOPED, ...LEAKS],
  },
  {
    name: 'PostgreSQL: a transaction begins at the level that its session has, and may not see a gate that closes',
    file: 'tenancy/postgres/transaction.ts',
    find: "'ISOLATION LEVEL READ COMMITTED '",
    replace: "''",
    tests: at('transactions'),
    named: 'sees what is committed meanwhile',
  },
  {
    name: 'PostgreSQL: a transaction can be used when it is over',
    file: 'tenancy/postgres/transaction.ts',
    find: "if (this.#over) throw this.#outlived ?? ended();\n    admitStatement(statement.text, 'in transaction');",
    replace: "admitStatement(statement.text, 'in transaction');",
    tests: at('transactions'),
  },
  {
    name: 'PostgreSQL: a client runs on after its release',
    file: 'tenancy/postgres/pool-shape.ts',
    find: "if (this.#released) throw refused('its client has been released');",
    replace: '',
    tests: at('pool-shape'),
  },
];

const STATEMENT_MUTANTS: readonly Mutant[] = [
  {
    name: 'PostgreSQL: a cursor that node-postgres would submit by itself is taken for a statement',
    file: 'tenancy/postgres/given.ts',
    find: "if ('submit' in textOrConfig)",
    replace: "if ('submitted' in textOrConfig)",
    tests: SCOPED,
    named: 'would submit by itself',
  },
  {
    name: 'PostgreSQL: a row that is longer than may be held is held, at the cost of everybody on the connection',
    file: 'tenancy/postgres/oversized.ts',
    find: 'return length > longestRow;',
    replace: 'return length < 0;',
    tests: ['test/tenancy/oversized.test.ts'],
  },
  ...['SET', 'DO', 'LISTEN', 'EXPLAIN'].map(
    (word): Mutant => ({
      name: `PostgreSQL: ${word} is sent`,
      file: 'tenancy/postgres/statement.ts',
      find: "const ROWS = new Set(['SELECT',",
      replace: `const ROWS = new Set(['${word}', 'SELECT',`,
      tests: [...LEAKS, ...SCOPED],
    }),
  ),
  {
    name: 'PostgreSQL: statements of a transaction are not looked at',
    file: 'tenancy/postgres/transaction.ts',
    find: "admitStatement(statement.text, 'in transaction');",
    replace: '',
    tests: at('transactions'),
  },
  {
    name: 'PostgreSQL: a table is locked for all tenants',
    file: 'tenancy/postgres/statement.ts',
    find: "const IN_TRANSACTION = new Set(['SAVEPOINT',",
    replace: "const IN_TRANSACTION = new Set(['LOCK', 'SAVEPOINT',",
    tests: LEAKS,
    named: 'one for all tenants',
  },
  {
    name: 'PostgreSQL: a cursor WITH HOLD is sent',
    file: 'tenancy/postgres/statement.ts',
    find: "if (/\\bhold\\b/i.test(text)) refuse('a cursor WITH HOLD outlives its transaction');",
    replace: '',
    tests: [...LEAKS, ...at('transactions')],
    named: 'HOLD',
  },
];

const TOKEN_MUTANTS: readonly Mutant[] = [
  {
    name: 'hardened: policies go by what is said, and not by what is signed',
    file: SCHEMA,
    find: '${hardened ? VERIFIED : CONTEXT}',
    replace: '${CONTEXT}',
    tests: HARDENED,
  },
  {
    name: 'hardened: the signature is not compared',
    file: CONTEXT,
    find: "IF mac IS NULL OR signed OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) mac OPERATOR(pg_catalog.<>) token THEN",
    replace: 'IF mac IS NULL THEN',
    tests: HARDENED,
  },
  {
    name: 'hardened: the signature of a key that nobody knows is taken',
    file: CONTEXT,
    find: 'IF mac IS NULL OR signed',
    replace: 'IF mac IS NOT NULL AND signed',
    tests: HARDENED,
  },
  {
    name: 'hardened: a token never expires',
    file: CONTEXT,
    find: 'OPERATOR(pg_catalog.<=) pg_catalog.transaction_timestamp() THEN',
    replace: 'OPERATOR(pg_catalog.<=) pg_catalog.to_timestamp(0) THEN',
    tests: HARDENED,
  },
  {
    name: 'hardened: the product reads the keys',
    file: CONTEXT,
    find: 'REVOKE ALL ON TABLE tenantry.context_key FROM PUBLIC;',
    replace: 'GRANT SELECT ON TABLE tenantry.context_key TO PUBLIC;',
    tests: HARDENED,
  },
  {
    name: "hardened: a probe's token stands in the text of its statement",
    file: CONTEXT,
    find: '{ text: ENTER_WITH_TOKEN, values: [sign(tenant), null, null] }',
    replace: "`SELECT tenantry.enter_with_token('${sign(tenant)}', NULL, NULL)`",
    tests: ['test/data-plane/postgres/hardened-cell.test.ts'],
  },
  {
    name: "hardened: a token is handed out for another tenant's",
    file: 'tenancy/postgres/token.ts',
    find: 'const known = cached.get(tenant);',
    replace: 'const known = [...cached.values()][0];',
    tests: at('token'),
  },
];

const ROLE_MUTANTS: readonly Mutant[] = [
  {
    name: 'roles: BYPASSRLS for all',
    file: 'catalogue/bootstrap.ts',
    find: 'NOBYPASSRLS',
    replace: 'BYPASSRLS',
    tests: SCOPED,
    ownServer: 'postgres',
  },
  {
    name: 'roles: superusers',
    file: 'catalogue/bootstrap.ts',
    find: 'NOSUPERUSER',
    replace: 'SUPERUSER',
    tests: SCOPED,
    ownServer: 'postgres',
  },
  {
    name: 'roles: everybody makes temporary tables',
    file: 'catalogue/bootstrap.ts',
    find: 'REVOKE ALL ON DATABASE ${name} FROM PUBLIC;',
    replace: 'REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC;',
    tests: LEAKS,
    named: 'what stays with a connection',
    ownServer: 'postgres',
  },
  {
    name: 'roles: everybody calls set_config',
    file: 'catalogue/bootstrap.ts',
    find: 'REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC;',
    replace: '',
    tests: LEAKS,
    named: 'in the middle of a query',
    ownServer: 'postgres',
  },
  {
    name: 'roles: everybody notifies whoever listens',
    file: 'catalogue/bootstrap.ts',
    find: "  'pg_catalog.pg_notify(text, text)',\n",
    replace: '',
    tests: LEAKS,
    named: 'a notification',
    ownServer: 'postgres',
  },
  {
    name: 'PostgreSQL: the number that a sequence gave another tenant is told to whoever asks next',
    file: 'catalogue/bootstrap.ts',
    find: "  'pg_catalog.lastval()',\n",
    replace: '',
    tests: LEAKS,
    named: 'a notification',
    ownServer: 'postgres',
  },
  {
    name: 'roles: everybody reads others’ statements, takes locks and makes large objects',
    file: 'catalogue/bootstrap.ts',
    find: "REVOKE EXECUTE ON FUNCTION ${[...seen, ...PAST_A_STATEMENT].join(', ')} FROM PUBLIC;",
    replace: '',
    tests: LEAKS,
    named: 'what stays with a connection',
    ownServer: 'postgres',
  },
];

const CONNECTION_MUTANTS: readonly Mutant[] = [
  {
    name: 'connection: the next statement is sent when the last one has failed, before the server is ready',
    file: 'tenancy/postgres/connection.ts',
    find: 'if (this.#refusing && this.#usable) this.#refused = end;',
    replace: 'if (this.#refusing && !this.#usable) this.#refused = end;',
    tests: at('pgbouncer'),
    named: 'says why before',
  },
];

export const POSTGRES_MUTANTS: readonly Mutant[] = [
  ...SCHEMA_MUTANTS,
  ...ENTER_MUTANTS,
  ...STATEMENT_MUTANTS,
  ...TOKEN_MUTANTS,
  ...ROLE_MUTANTS,
  ...CONNECTION_MUTANTS,
];
