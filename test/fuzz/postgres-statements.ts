/** Single statements for PostgreSQL, each with how often it comes and what must become of it. */
import { mongoDatabaseName } from '../../domain/names.js';
import type { Rule } from './referee.js';
import type { Scene } from './scene.js';
import { ANCHOR, rowId } from './stage.js';

export interface Sql {
  readonly text: string;
  readonly values?: readonly unknown[];
}

export interface PostgresStatement extends Omit<Rule, 'store'> {
  readonly weight: number;
  /** May also stand in a transaction. */
  readonly inTransaction?: boolean;
  sql(scene: Scene): Sql;
}

const ROWS = 12;
const row = ({ random }: Scene): { id: string; email: string } => {
  const position = random.below(ROWS);
  return { id: rowId(position), email: `${position}@example.test` };
};

const CUSTOMERS = 'SELECT tenant_id, id, email, name FROM app.customers';
const INSERT_CUSTOMER =
  'INSERT INTO app.customers (tenant_id, id, email, name, created_at) VALUES ($1, $2, $3, $4, now())';
const INSERT_MESSAGE =
  'INSERT INTO app.messages (tenant_id, id, conversation_id, body, created_at) VALUES ($1, $2, $3, $4, now())';

const OWN: readonly PostgresStatement[] = [
  {
    kind: 'row that every tenant has',
    weight: 30,
    inTransaction: true,
    must: 'see its own',
    sql: () => ({ text: `${CUSTOMERS} WHERE id = $1`, values: [ANCHOR.id] }),
  },
  {
    kind: 'row that comes and goes',
    weight: 15,
    inTransaction: true,
    sql: (scene) => ({ text: `${CUSTOMERS} WHERE id = $1`, values: [row(scene).id] }),
  },
  {
    kind: 'all rows',
    weight: 8,
    inTransaction: true,
    must: 'see its own',
    sql: () => ({ text: 'SELECT * FROM app.customers' }),
  },
  {
    kind: 'join',
    weight: 4,
    inTransaction: true,
    must: 'see its own',
    sql: () => ({
      text: `SELECT c.tenant_id, c.name, v.subject, m.body FROM app.customers c
               JOIN app.conversations v ON v.customer_id = c.id
               LEFT JOIN app.messages m ON m.conversation_id = v.id`,
    }),
  },
  {
    kind: 'groups',
    weight: 4,
    inTransaction: true,
    must: 'see its own',
    sql: () => ({ text: 'SELECT tenant_id, count(*)::int AS rows FROM app.customers GROUP BY tenant_id' }),
  },
  {
    kind: 'upsert',
    weight: 12,
    inTransaction: true,
    write: true,
    // ON CONFLICT minds one unique key: of two at once, one may meet the other's e-mail address first.
    codes: ['23505'],
    sql(scene) {
      const { id, email } = row(scene);
      return {
        text: `${INSERT_CUSTOMER} ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name RETURNING *`,
        values: [scene.subject.tenantId, id, email, scene.value()],
      };
    },
  },
  {
    kind: 'message',
    weight: 5,
    inTransaction: true,
    write: true,
    sql: (scene) => ({
      text: `${INSERT_MESSAGE} ON CONFLICT (tenant_id, id) DO UPDATE SET body = excluded.body RETURNING *`,
      values: [scene.subject.tenantId, row(scene).id, ANCHOR.id, scene.value()],
    }),
  },
  {
    kind: 'update by an id that all share',
    weight: 6,
    inTransaction: true,
    write: true,
    sql: (scene) => ({
      text: 'UPDATE app.customers SET name = $2 WHERE id = $1 RETURNING tenant_id, name',
      values: [row(scene).id, scene.value()],
    }),
  },
  {
    kind: 'delete by an id that all share',
    weight: 4,
    inTransaction: true,
    write: true,
    sql: (scene) => ({
      text: 'DELETE FROM app.messages WHERE id = $1 RETURNING tenant_id, body',
      values: [row(scene).id],
    }),
  },
  {
    kind: 'own gate',
    weight: 1,
    uncut: true,
    must: 'see its own',
    sql: () => ({ text: 'SELECT tenant_id, mode FROM tenantry.gate' }),
  },
];

const ACROSS: readonly PostgresStatement[] = [
  {
    kind: "another's rows by its id",
    weight: 6,
    inTransaction: true,
    must: 'see nothing',
    sql: ({ other }) => ({ text: `${CUSTOMERS} WHERE tenant_id = $1`, values: [other.tenantId] }),
  },
  {
    kind: "another's row by an id of its alone",
    weight: 4,
    inTransaction: true,
    must: 'see nothing',
    sql: ({ other }) => ({ text: 'SELECT * FROM app.conversations WHERE id = $1', values: [other.tenantId] }),
  },
  {
    kind: 'rows that are not its own',
    weight: 3,
    inTransaction: true,
    must: 'see nothing',
    sql: ({ subject }) => ({
      text: 'SELECT name FROM app.customers WHERE tenant_id <> $1',
      values: [subject.tenantId],
    }),
  },
  {
    kind: 'injected condition',
    weight: 3,
    inTransaction: true,
    must: 'see its own',
    sql: () => ({ text: `${CUSTOMERS} WHERE email = '' OR '1' = '1' --'` }),
  },
  {
    kind: 'injected union',
    weight: 2,
    inTransaction: true,
    sql: ({ other }) => ({
      text: `${CUSTOMERS} WHERE email = '' UNION ALL ${CUSTOMERS} WHERE tenant_id = '${other.tenantId}' --'`,
    }),
  },
  {
    kind: "update of another's rows",
    weight: 2,
    inTransaction: true,
    write: true,
    must: 'see nothing',
    sql: (scene) => ({
      text: 'UPDATE app.customers SET name = $2 WHERE tenant_id = $1',
      values: [scene.other.tenantId, scene.value()],
    }),
  },
  {
    kind: "delete of another's rows",
    weight: 2,
    inTransaction: true,
    write: true,
    must: 'see nothing',
    sql: ({ other }) => ({ text: 'DELETE FROM app.messages WHERE tenant_id = $1', values: [other.tenantId] }),
  },
  {
    kind: 'row given to another',
    weight: 1,
    write: true,
    must: 'see nothing',
    codes: ['42501'],
    sql: (scene) => ({
      text: 'UPDATE app.customers SET tenant_id = $2 WHERE id = $1',
      values: [row(scene).id, scene.other.tenantId],
    }),
  },
  {
    kind: "insert in another's name",
    weight: 2,
    write: true,
    must: 'be refused',
    codes: ['42501'],
    sql: (scene) => ({
      text: INSERT_CUSTOMER,
      values: [scene.other.tenantId, scene.random.uuid(), 'new@example.test', scene.value()],
    }),
  },
  {
    kind: "child of another's parent",
    weight: 2,
    write: true,
    must: 'be refused',
    codes: ['23503'],
    sql: (scene) => ({
      text: INSERT_MESSAGE,
      values: [scene.subject.tenantId, scene.random.uuid(), scene.other.tenantId, scene.value()],
    }),
  },
  {
    kind: 'another gate',
    weight: 1,
    must: 'see nothing',
    sql: ({ other }) => ({
      text: 'SELECT mode FROM tenantry.gate WHERE tenant_id = $1',
      values: [other.tenantId],
    }),
  },
];

const SWITCHES: readonly PostgresStatement[] = [
  {
    kind: 'entering another',
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['TN001'],
    sql: ({ other }) => ({ text: 'SELECT tenantry.enter($1, NULL, NULL)', values: [other.tenantId] }),
  },
  {
    kind: 'entering another in the middle of a query',
    weight: 1,
    codes: ['TN001'],
    sql: ({ other }) => ({
      text: `WITH entered AS MATERIALIZED (SELECT tenantry.enter_alone($1))
             SELECT tenant_id, name FROM app.customers, entered`,
      values: [other.tenantId],
    }),
  },
  {
    kind: 'set_config',
    weight: 1,
    must: 'be refused',
    codes: ['42501'],
    sql: ({ other }) => ({
      text: "SELECT set_config('app.tenant_id', $1, true)",
      values: [other.tenantId],
    }),
  },
  {
    kind: 'statement that is not about rows',
    weight: 2,
    must: 'be refused',
    codes: ['STATEMENT_REFUSED'],
    sql: ({ random, other }) => ({
      text: random.pick([
        `SET app.tenant_id = '${other.tenantId}'`,
        `/* SELECT */ SET SESSION app.tenant_id = '${other.tenantId}'`,
        'RESET ALL',
        'DISCARD ALL',
        'COMMIT',
        'BEGIN',
        'CREATE TEMP TABLE kept AS SELECT * FROM app.customers',
        `DO $$ BEGIN PERFORM tenantry.enter('${other.tenantId}', NULL, NULL); END $$`,
        `PREPARE theirs AS SELECT * FROM app.customers WHERE tenant_id = '${other.tenantId}'`,
      ]),
    }),
  },
  {
    kind: 'stacked statements',
    weight: 1,
    must: 'be refused',
    codes: ['42601'],
    sql: ({ other }) => ({ text: `SELECT 1; SET app.tenant_id = '${other.tenantId}'; ${CUSTOMERS}` }),
  },
  {
    kind: 'temporary table',
    weight: 1,
    must: 'be refused',
    codes: ['42501'],
    sql: () => ({ text: 'SELECT * INTO TEMP kept FROM app.customers' }),
  },
];

const ERRORS: readonly PostgresStatement[] = [
  {
    kind: 'error half-way',
    weight: 2,
    inTransaction: true,
    codes: ['22012'],
    sql: () => ({ text: 'SELECT tenant_id, name, 1 / (length(name) - length(name)) FROM app.customers' }),
  },
  {
    kind: 'duplicate',
    weight: 2,
    write: true,
    inTransaction: true,
    must: 'be refused',
    codes: ['23505'],
    sql: (scene) => ({
      text: INSERT_CUSTOMER,
      values: [scene.subject.tenantId, ANCHOR.id, ANCHOR.email, scene.value()],
    }),
  },
  {
    kind: 'name that is not there',
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['42P01'],
    sql: ({ other }) => ({ text: `SELECT * FROM app.${mongoDatabaseName(other.tenantId)}` }),
  },
];

export const STATEMENTS: readonly PostgresStatement[] = [...OWN, ...ACROSS, ...SWITCHES, ...ERRORS];
