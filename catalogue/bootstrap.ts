/**
 * Makes the roles and databases that Tenantry works with, as a PostgreSQL superuser; a DBA's work, safe to repeat
 * and to run twice at once. Everything after it runs with far smaller rights.
 */
import pg from 'pg';
import { inLockedTransaction } from './lock.js';

/**
 * The roles, least privilege each: the owner makes and changes tables; the catalogue role runs the control plane; the
 * runtime role is the product's own, bound by row-level security; the purge role erases; the lookup role is the
 * product's own in the catalogue, where it reads which tenants there are.
 */
export const ROLES = {
  owner: 'tenantry_owner',
  catalogue: 'tenantry_catalogue',
  runtime: 'tenantry_runtime',
  purge: 'tenantry_purge',
  lookup: 'tenantry_lookup',
} as const;
export type RoleName = keyof typeof ROLES;
export type RolePasswords = Readonly<Record<RoleName, string>>;

/** Who may connect, beside the owner: to the catalogue's database, and to a cell's. */
export const CONTROL_ROLES: readonly RoleName[] = ['catalogue', 'lookup'];
export const CELL_ROLES: readonly RoleName[] = ['catalogue', 'runtime', 'purge'];

export interface BootstrapOptions {
  /** A superuser, connected to any database. */
  readonly adminUrl: string;
  readonly passwords: RolePasswords;
  /** Names of the databases, which are made when they are not there. */
  readonly controlDatabase: string;
  readonly cellDatabase: string;
}

export async function bootstrap(options: BootstrapOptions): Promise<void> {
  const { adminUrl, controlDatabase, cellDatabase } = options;
  await withClient(adminUrl, async (client) => {
    await inLockedTransaction(client, 'bootstrap', () => ensureRoles(client, options.passwords));
    for (const database of new Set([controlDatabase, cellDatabase])) await ensureDatabase(client, database);
  });
  await secureDatabase(adminUrl, controlDatabase, CONTROL_ROLES);
  await secureDatabase(adminUrl, cellDatabase, CELL_ROLES);
}

/** The URL of the same server for another database and, when given, another role. */
export function postgresUrl(
  adminUrl: string,
  database: string,
  role?: RoleName,
  passwords?: RolePasswords,
): string {
  const url = new URL(adminUrl);
  url.pathname = `/${database}`;
  if (role !== undefined && passwords !== undefined) {
    url.username = ROLES[role];
    url.password = passwords[role];
  }
  return url.href;
}

/**
 * Nobody connects or makes temporary tables (which outlive a pooled tenant) but the roles named. Nor may the product's role
 * call set_config, which in the middle of a query would make it another tenant's, or what reaches past a statement and its
 * tenant.
 */
async function secureDatabase(adminUrl: string, database: string, roles: readonly RoleName[]): Promise<void> {
  await withClient(postgresUrl(adminUrl, database), async (client) => {
    await inLockedTransaction(client, 'bootstrap', async () => {
      await client.query(rightsOnDatabase(database, roles));
      await client.query(`
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        CREATE SCHEMA IF NOT EXISTS tenantry AUTHORIZATION ${ROLES.owner};`);
      const { rows } = await client.query<{ name: string }>(
        'SELECT name FROM unnest($1::text[]) AS name WHERE to_regprocedure(name) IS NOT NULL',
        [SEEN_BY_ALL],
      );
      const seen = rows.map(({ name }) => name);
      await client.query(`
        REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO ${ROLES.owner}, ${ROLES.catalogue};
        REVOKE EXECUTE ON FUNCTION ${[...seen, ...PAST_A_STATEMENT].join(', ')} FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION ${PAST_A_STATEMENT.join(', ')} TO ${ROLES.owner}, ${ROLES.catalogue};
        GRANT EXECUTE ON FUNCTION ${seen.join(', ')} TO pg_read_all_stats;
        GRANT EXECUTE ON FUNCTION ${TRANSACTIONS_UNDER_WAY.join(', ')} TO ${ROLES.catalogue};
        GRANT EXECUTE ON FUNCTION pg_catalog.pg_cancel_backend(integer),
          pg_catalog.pg_terminate_backend(integer, bigint) TO pg_signal_backend`);
    });
  });
}

/** Those on a database itself, as statements for any connection of the server: CREATE DATABASE does not copy them. */
export function rightsOnDatabase(database: string, roles: readonly RoleName[]): string {
  const name = pg.escapeIdentifier(database);
  return `
    REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
    GRANT CONNECT, CREATE ON DATABASE ${name} TO ${ROLES.owner};
    GRANT CONNECT ON DATABASE ${name} TO ${roles.map((role) => ROLES[role]).join(', ')};`;
}

/**
 * The texts of statements, with the values in them, and the locks that are held, with the numbers that a product made of
 * its values: all tenants of a product share its role, and a connection.
 */
const SEEN_BY_ALL = [
  'pg_catalog.pg_stat_get_activity(integer)',
  'pg_catalog.pg_stat_get_backend_activity(integer)',
  'pg_catalog.pg_prepared_statement()',
  'pg_catalog.pg_lock_status()',
  // What a session has done that is not reported yet: on a shared connection, what another tenant did just before.
  ...[
    'numscans',
    'tuples_returned',
    'tuples_fetched',
    'tuples_inserted',
    'tuples_updated',
    'tuples_deleted',
  ].map((counted) => `pg_catalog.pg_stat_get_xact_${counted}(oid)`),
  'pg_catalog.pg_stat_get_xact_tuples_hot_updated(oid)',
  'pg_catalog.pg_stat_get_xact_blocks_fetched(oid)',
  'pg_catalog.pg_stat_get_xact_blocks_hit(oid)',
  ...['calls', 'total_time', 'self_time'].map(
    (counted) => `pg_catalog.pg_stat_get_xact_function_${counted}(oid)`,
  ),
  // Since PostgreSQL 16.
  'pg_catalog.pg_stat_get_xact_tuples_newpage_updated(oid)',
];

/** Of these, what an erasure waits by: it sees the transactions of others, and not their statements. */
const TRANSACTIONS_UNDER_WAY = ['pg_catalog.pg_stat_get_activity(integer)', 'pg_catalog.pg_lock_status()'];

/**
 * Other statements of the same role, what policies do not cover, what stays with the session (locks, which numbers
 * `random()` will give, and which a sequence gave last), notifications, which whoever listens takes for anybody's, and large
 * objects, which have no policies.
 */
const PAST_A_STATEMENT = [
  'pg_catalog.pg_cancel_backend(integer)',
  'pg_catalog.pg_terminate_backend(integer, bigint)',
  ...['lock', 'lock_shared'].flatMap((lock) =>
    [`pg_advisory_${lock}`, `pg_try_advisory_${lock}`].flatMap((name) => [
      `pg_catalog.${name}(bigint)`,
      `pg_catalog.${name}(integer, integer)`,
    ]),
  ),
  'pg_catalog.setseed(double precision)',
  'pg_catalog.lastval()',
  'pg_catalog.currval(regclass)',
  // Where the newest version of a row is, whosever it is: it asks no policy.
  'pg_catalog.currtid2(text, tid)',
  'pg_catalog.pg_notify(text, text)',
  'pg_catalog.lo_creat(integer)',
  'pg_catalog.lo_create(oid)',
  'pg_catalog.lo_from_bytea(oid, bytea)',
  'pg_catalog.lo_open(oid, integer)',
  'pg_catalog.lo_get(oid)',
  'pg_catalog.lo_get(oid, bigint, integer)',
  'pg_catalog.lo_put(oid, bigint, bytea)',
  'pg_catalog.lo_unlink(oid)',
];

/** Functions of the server that PUBLIC may call by default, and not where Tenantry is, in every version that has them. */
export const WITHDRAWN: readonly string[] = [
  'pg_catalog.set_config(text, text, boolean)',
  ...SEEN_BY_ALL,
  ...PAST_A_STATEMENT,
];

async function ensureRoles(client: pg.ClientBase, passwords: RolePasswords): Promise<void> {
  for (const [key, role] of Object.entries(ROLES) as [RoleName, string][]) {
    const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [role]);
    await client.query(`
      ${rowCount === 0 ? 'CREATE' : 'ALTER'} ROLE ${role} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE
        NOREPLICATION NOBYPASSRLS NOINHERIT PASSWORD ${pg.escapeLiteral(passwords[key])}`);
  }
}

async function ensureDatabase(client: pg.ClientBase, database: string): Promise<void> {
  const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [database]);
  if (rowCount !== 0) return;
  await client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)}`).catch((error: unknown) => {
    // Another process was first (duplicate_database, or the unique index of pg_database).
    if (error instanceof pg.DatabaseError && (error.code === '42P04' || error.code === '23505')) return;
    throw error;
  });
}

/** One connection for all that is to be done at once: each costs the server a process. */
export async function withClient(url: string, work: (client: pg.Client) => Promise<unknown>): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'tenantry-bootstrap' });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
