// The statements that our activities send, recorded once from a real run and sent again by hand: the same text, the same
// connections, other tenants. What our own code adds is the difference.

import { Pipeline, type Redis } from 'ioredis';
import { type CommandStartedEvent, Db, type Document, type MongoClient } from 'mongodb';
import pg from 'pg';
import { type TenantId, tenantId } from '../domain/ids.js';

/** Statements of one checked-out connection: a transaction, or a single one. */
interface PostgresUnit {
  readonly store: 'postgres';
  /** `user@database`: which pool it came from. */
  readonly pool: string;
  readonly statements: { name?: string; text: string; values?: unknown[] }[];
}

interface MongoCommand {
  readonly store: 'mongo';
  /** The user by which it was sent; undefined for the control plane. */
  readonly user: string | undefined;
  readonly db: string;
  readonly command: Document;
}

interface RedisPipeline {
  readonly store: 'redis';
  readonly as: 'control' | 'tenant';
  readonly commands: [name: string, ...args: string[]][];
}

export type Statement = PostgresUnit | MongoCommand | RedisPipeline;

/** Where statements are recorded from and sent to. */
export interface Servers {
  readonly pools: ReadonlyMap<string, pg.Pool>;
  /** With monitorCommands where it is recorded from, and only there. */
  readonly mongo: MongoClient;
  readonly redis: Redis;
  readonly redisAsTenant: Redis;
  /** Opens a connection as a tenant's user. */
  readonly openMongo: (tenantId: TenantId, password: string) => MongoClient;
  /** Of a tenant's user that was recorded, or of one made after its pattern. */
  readonly passwords: Map<string, string>;
  /** Clients that stay connected, by user: the canary's. */
  readonly standing: ReadonlyMap<string, MongoClient>;
}

export const poolKey = ({
  user,
  database,
}: {
  user?: string | undefined;
  database?: string | undefined;
}): string => `${user ?? ''}@${database ?? ''}`;

/**
 * Records all that `work` sends, in order. One piece of work at a time: the drivers are patched meanwhile.
 * @param tenantClients calls back with each MongoDB client that is opened as a tenant
 */
export async function record(
  servers: Servers,
  onTenantClient: (listener: (client: MongoClient, user: string) => void) => () => void,
  work: () => Promise<unknown>,
): Promise<Statement[]> {
  const statements: Statement[] = [];
  const undo = [
    recordPostgres(statements),
    recordRedis(statements, servers),
    recordUsers(statements),
    listen(statements, servers.mongo, undefined),
    ...[...servers.standing].map(([user, client]) => listen(statements, client, user)),
    onTenantClient((client, user) => listen(statements, client, user)),
  ];
  try {
    await work();
  } finally {
    for (const one of undo) one();
  }
  return statements;
}

function recordPostgres(statements: Statement[]): () => void {
  const prototype = pg.Client.prototype as unknown as { query: (...args: unknown[]) => unknown };
  const original = prototype.query;
  const open = new Map<unknown, PostgresUnit>();
  prototype.query = function query(this: pg.Client, ...args: unknown[]): unknown {
    const [first, second] = args;
    const given =
      typeof first === 'string' ? { text: first, values: Array.isArray(second) ? second : undefined } : first;
    const { text, name, values } = given as { text: string; name?: string; values?: unknown[] };
    const statement = { text, ...(name ? { name } : {}), ...(values ? { values } : {}) };
    let unit = open.get(this);
    if (unit === undefined) {
      unit = { store: 'postgres', pool: poolKey(this), statements: [] };
      statements.push(unit);
    }
    unit.statements.push(statement);
    if (text.startsWith('BEGIN')) open.set(this, unit);
    if (text === 'COMMIT' || text === 'ROLLBACK') open.delete(this);
    return original.apply(this, args);
  };
  return () => {
    prototype.query = original;
  };
}

function recordRedis(statements: Statement[], servers: Servers): () => void {
  const prototype = Pipeline.prototype as unknown as { exec: (...args: unknown[]) => unknown };
  const original = prototype.exec;
  prototype.exec = function exec(
    this: { _queue: { name: string; args: unknown[] }[]; redis: Redis },
    ...args
  ): unknown {
    statements.push({
      store: 'redis',
      as: this.redis === servers.redisAsTenant ? 'tenant' : 'control',
      commands: this._queue.map((command) => [command.name, ...command.args.map(String)]),
    });
    return original.apply(this, args);
  };
  return () => {
    prototype.exec = original;
  };
}

/** What the driver sends by itself: its handshake and log-in come with opening a client by hand, too. */
const OF_THE_DRIVER = new Set([
  'hello',
  'ismaster',
  'saslStart',
  'saslContinue',
  'ping',
  'endSessions',
  'createUser',
]);

/** The driver's events hide the commands that hold a password, so these are taken where they are given to it. */
function recordUsers(statements: Statement[]): () => void {
  const original = Db.prototype.command;
  Db.prototype.command = function command(this: Db, document: Document, options) {
    if ('createUser' in document)
      statements.push({ store: 'mongo', user: undefined, db: this.databaseName, command: document });
    return original.call(this, document, options);
  };
  return () => {
    Db.prototype.command = original;
  };
}

function listen(statements: Statement[], client: MongoClient, user: string | undefined): () => void {
  const onStarted = ({ commandName, command, databaseName }: CommandStartedEvent): void => {
    if (OF_THE_DRIVER.has(commandName)) return;
    const { lsid: _, $db: __, $clusterTime: ___, txnNumber: ____, ...sent } = command;
    statements.push({ store: 'mongo', user, db: databaseName, command: structuredCloneBson(sent) });
  };
  client.on('commandStarted', onStarted);
  return () => client.off('commandStarted', onStarted);
}

/** Commands hold BSON values, which keep their prototypes; arrays and plain objects are copied. */
function structuredCloneBson<T>(value: T): T {
  if (Array.isArray(value)) return value.map(structuredCloneBson) as T;
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, structuredCloneBson(inner)]),
  ) as T;
}

const NAMES = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|t_[0-9a-z]{26}/g;

/** The same statements for other tenants: every name in `names` becomes what it maps to. Done ahead of the clock. */
export function forOthers(statements: readonly Statement[], names: ReadonlyMap<string, string>): Statement[] {
  const change = (value: unknown): unknown => {
    if (typeof value === 'string') return value.replace(NAMES, (name) => names.get(name) ?? name);
    if (Array.isArray(value)) return value.map(change);
    if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype)
      return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, change(inner)]));
  };
  return statements.map((statement) => change(statement) as Statement);
}

/** The passwords that users get in these statements; whoever logs in by hand has to know them. */
export function passwordsIn(statements: readonly Statement[]): [user: string, password: string][] {
  return statements.flatMap((statement): [string, string][] =>
    statement.store === 'mongo' && typeof statement.command['createUser'] === 'string'
      ? [[statement.command['createUser'], String(statement.command['pwd'])]]
      : [],
  );
}

/** Sends statements one after the other; a client as a tenant is opened when first needed and closed at the end. */
export async function send(servers: Servers, statements: readonly Statement[]): Promise<void> {
  const opened = new Map<string, MongoClient>();
  try {
    for (const statement of statements) await sendOne(servers, statement, opened);
  } finally {
    for (const client of opened.values()) void client.close();
  }
}

async function sendOne(
  servers: Servers,
  statement: Statement,
  opened: Map<string, MongoClient>,
): Promise<void> {
  switch (statement.store) {
    case 'postgres':
      return sendUnit(servers, statement);
    case 'mongo': {
      const client = clientFor(servers, statement.user, opened);
      // A probe's crossing is answered with a refusal; that is the answer it wants.
      await client
        .db(statement.db)
        .command(statement.command)
        .catch((error: unknown) => expectCode(error, 13));
      return undefined;
    }
    case 'redis': {
      const pipeline = (statement.as === 'tenant' ? servers.redisAsTenant : servers.redis).pipeline();
      for (const [name, ...args] of statement.commands) pipeline.call(name, ...args);
      await pipeline.exec();
      return undefined;
    }
  }
}

async function sendUnit({ pools }: Servers, { pool: key, statements }: PostgresUnit): Promise<void> {
  const pool = pools.get(key);
  if (pool === undefined) throw new Error(`no pool for ${key}`);
  const client = await pool.connect();
  try {
    for (const statement of statements) {
      await client.query(statement).catch((error: unknown) => expectCode(error, '42501'));
    }
  } finally {
    client.release();
  }
}

function clientFor(
  servers: Servers,
  user: string | undefined,
  opened: Map<string, MongoClient>,
): MongoClient {
  if (user === undefined) return servers.mongo;
  const known = servers.standing.get(user) ?? opened.get(user);
  if (known !== undefined) return known;
  const client = servers.openMongo(tenantId(user.replace(/^tenant-/, '')), servers.passwords.get(user) ?? '');
  opened.set(user, client);
  return client;
}

function expectCode(error: unknown, code: string | number): void {
  if (error instanceof Error && 'code' in error && error.code === code) return;
  throw error;
}
