/**
 * Configuration, parsed once from the environment. This is the only place where it is read; every variable that
 * Tenantry knows is in `VARIABLES`, from which `docs/configuration.md` is checked.
 */
import { readFileSync } from 'node:fs';
import { types } from 'node:util';
import { z } from 'zod';
import { CELL_NAME } from './ids.js';
import { TenantryError } from './errors.js';

const url = (...protocols: string[]) =>
  z.string().refine(
    (text) => {
      try {
        return protocols.includes(new URL(text).protocol);
      } catch {
        return false;
      }
    },
    `must be a URL beginning with ${protocols.map((p) => `${p}//`).join(' or ')}`,
  );

const postgresUrl = url('postgres:', 'postgresql:');
const mongoUrl = z
  .string()
  .regex(/^mongodb(\+srv)?:\/\//, 'must be a URL beginning with mongodb:// or mongodb+srv://');
// Not coerced: to Number() a blank is 0.
const whole = z.string().regex(/^\d+$/, 'must be a whole number').transform(Number);
const port = whole.pipe(z.int().max(65_535));
const count = whole.pipe(z.int().positive());
const database = z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, 'must be lower-case letters, digits and _');
const password = z.string().min(16, 'must be 16 characters or more');
/** Ascending: the last one signs. */
const keyIds = z
  .string()
  .regex(/^[1-9]\d{0,8}(,[1-9]\d{0,8})?$/, 'must be one number or two, with a comma')
  .transform((text) => text.split(',').map(Number))
  .refine(([first = 0, second = first + 1]) => first < second, 'must ascend');
const flag = z.enum(['true', 'false']).transform((text) => text === 'true');

/** name -> [schema, what it is for, whether it is a secret]. A secret may also come as a file: NAME_FILE. */
export const VARIABLES = {
  TENANTRY_CATALOGUE_URL: [postgresUrl, 'the control database, as the catalogue role', true],
  TENANTRY_POSTGRES_ADMIN_URL: [
    postgresUrl,
    'a superuser, for `migrate` alone: makes roles and databases',
    true,
  ],
  TENANTRY_CONTROL_DATABASE: [
    database.default('tenantry_control'),
    'the control database that `migrate` makes',
    false,
  ],
  TENANTRY_CELL_DATABASE: [
    database.default('tenantry_cell'),
    "the cell's database that `migrate` makes",
    false,
  ],
  TENANTRY_ROLE_PASSWORD_OWNER: [password, 'the password that `migrate` gives tenantry_owner', true],
  TENANTRY_ROLE_PASSWORD_CATALOGUE: [password, 'the password that `migrate` gives tenantry_catalogue', true],
  TENANTRY_ROLE_PASSWORD_RUNTIME: [password, 'the password that `migrate` gives tenantry_runtime', true],
  TENANTRY_ROLE_PASSWORD_PURGE: [password, 'the password that `migrate` gives tenantry_purge', true],
  TENANTRY_ROLE_PASSWORD_LOOKUP: [password, 'the password that `migrate` gives tenantry_lookup', true],
  TENANTRY_TEMPORAL_ADDRESS: [
    z.string().default('127.0.0.1:7233'),
    'host:port of the Temporal frontend',
    false,
  ],
  TENANTRY_TEMPORAL_NAMESPACE: [z.string().default('default'), 'the Temporal namespace', false],
  TENANTRY_TEMPORAL_TASK_QUEUE: [z.string().default('tenantry'), 'the task queue of the workers', false],
  TENANTRY_TEMPORAL_TLS: [flag.default(false), 'TLS to Temporal', false],
  TENANTRY_TEMPORAL_API_KEY: [z.string().optional(), 'an API key of Temporal Cloud', true],
  TENANTRY_TEMPORAL_CONNECT_MS: [
    count.default(10_000),
    'how long a worker that starts waits for Temporal before it gives up',
    false,
  ],
  TENANTRY_TEMPORAL_UI_URL: [z.string().optional(), 'where the Temporal UI is, for links', false],
  TENANTRY_ROOT_KEY: [
    z.base64().refine((text) => Buffer.from(text, 'base64').length === 32, 'must be 32 bytes in base64'),
    'seals the credentials in the catalogue',
    true,
  ],
  TENANTRY_CONTEXT_KEY_IDS: [
    keyIds.default([1]),
    'ids of the context keys that are valid in the cells, oldest first, as in `1,2`',
    false,
  ],
  TENANTRY_CELL_NAME: [
    z.string().regex(CELL_NAME).default('default'),
    'the cell that this environment declares',
    false,
  ],
  TENANTRY_CELL_POSTGRES_OWNER_URL: [postgresUrl, "the cell's PostgreSQL, as the schema owner", true],
  TENANTRY_CELL_POSTGRES_CONTROL_URL: [
    postgresUrl,
    "the cell's PostgreSQL, as the role that works the gate",
    true,
  ],
  TENANTRY_CELL_POSTGRES_RUNTIME_URL: [postgresUrl, "the cell's PostgreSQL, as the product's role", true],
  TENANTRY_CELL_POSTGRES_PURGE_URL: [postgresUrl, "the cell's PostgreSQL, as the role that erases", true],
  TENANTRY_CELL_MONGO_URL: [
    mongoUrl,
    "the cell's MongoDB, as one who makes databases, roles and users",
    true,
  ],
  TENANTRY_CELL_REDIS_URL: [url('redis:', 'rediss:'), "the cell's Redis, as one who makes ACL users", true],
  TENANTRY_CELL_MONGO_ENFORCEMENT: [
    z.enum(['server', 'guard']).default('server'),
    '`server`: no tenant unless the MongoDB server itself isolates; `guard`: weaker, by choice',
    false,
  ],
  TENANTRY_CELL_CAPACITY_TENANTS: [count.default(10_000), 'tenants that the cell takes', false],
  TENANTRY_CELL_CAPACITY_COLLECTIONS: [
    count.default(100_000),
    'MongoDB collections + indexes that it takes',
    false,
  ],
  TENANTRY_API_HOST: [z.string().default('127.0.0.1'), 'where the API listens', false],
  TENANTRY_API_PORT: [port.default(8080), 'the port of the API; 0 takes a free one', false],
  TENANTRY_API_TOKEN: [z.string().min(32), 'the bearer token of the API, 32 characters or more', true],
  TENANTRY_API_BODY_LIMIT: [
    count.default(4_194_304),
    'the largest body, in bytes; the longest batch may have 2.7 million',
    false,
  ],
  TENANTRY_ADMISSION_TIMEOUT_MS: [count.default(10_000), 'how long a request waits to be admitted', false],
  TENANTRY_WORKER_HEALTH_PORT: [
    port.default(0),
    "the port of the worker's /livez, /readyz and /metrics",
    false,
  ],
  TENANTRY_WORKER_SHUTDOWN_MS: [
    count.default(10_000),
    'how long running activities may finish at a stop',
    false,
  ],
  TENANTRY_WORKER_ACTIVITIES: [count.default(200), 'activities at once in one worker', false],
  TENANTRY_WORKER_CONNECTIONS: [
    count.default(8),
    "connections of one worker in each of its larger pools: the catalogue's, and each cell's busy ones",
    false,
  ],
  TENANTRY_ISOLATION_PROBE_MS: [
    whole.pipe(z.int()).default(900_000),
    'how often tenants at work are tried against each other; 0 never',
    false,
  ],
  TENANTRY_ISOLATION_PROBE_SAMPLE: [count.default(20), 'tenants of each cell that such a probe tries', false],
  TENANTRY_MANIFEST: [z.string().optional(), "the product's manifest module; the sample by default", false],
  TENANTRY_LOG_LEVEL: [
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
    'the least level that is logged',
    false,
  ],
} as const satisfies Record<string, readonly [z.ZodType, string, boolean]>;

type Variables = typeof VARIABLES;
export type VariableName = keyof Variables;
export type Config = { readonly [K in VariableName]: z.output<Variables[K][0]> };

/**
 * The values of the named variables.
 * @throws TypeError that names each variable at fault and never shows a value.
 */
export function readConfig<const Names extends readonly VariableName[]>(
  names: Names,
  env: NodeJS.ProcessEnv = process.env,
): Pick<Config, Names[number]> {
  const problems: string[] = [];
  const values: Partial<Record<VariableName, unknown>> = {};
  for (const name of names) {
    const [schema, purpose] = VARIABLES[name];
    try {
      const result = schema.safeParse(rawValue(name, env));
      if (result.success) values[name] = result.data;
      else
        problems.push(
          `  ${name} (${purpose}): ${result.error.issues.map((issue) => issue.message).join('; ')}`,
        );
    } catch (error) {
      problems.push(
        `  ${name} (${purpose}): the file that ${name}_FILE names cannot be read (${codeOf(error)})`,
      );
    }
  }
  if (problems.length > 0) throw new TypeError(`The environment is not complete:\n${problems.join('\n')}`);
  return values as Pick<Config, Names[number]>;
}

/** The value with secrets redacted, fit to be printed. */
export function redacted(config: Partial<Config>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(config).map(([name, value]) => [
      name,
      VARIABLES[name as VariableName][2] ? '[secret]' : value,
    ]),
  );
}

/**
 * Resolves a secret reference of the catalogue: `env:NAME` or `file:/path`.
 * @throws TenantryError STORE_REFUSED when it leads nowhere; the reference is shown, a value never.
 */
export function resolveSecret(reference: string, env: NodeJS.ProcessEnv = process.env): string {
  const { scheme, rest = '' } = /^(?<scheme>env|file):(?<rest>.+)$/s.exec(reference)?.groups ?? {};
  // What is no reference may be the secret itself.
  if (scheme === undefined) throw leadsNowhere('a reference that is neither env:NAME nor file:/path');
  let value: string | undefined;
  try {
    value = scheme === 'env' ? rawValue(rest, env) : readFileSync(rest, 'utf8').trim();
  } catch (error) {
    throw leadsNowhere(`nothing at ${reference}, ${codeOf(error)}`, error);
  }
  if (value === undefined || value === '') throw leadsNowhere(`nothing at ${reference}`);
  return value;
}

const leadsNowhere = (reason: string, cause?: unknown): TenantryError =>
  new TenantryError('STORE_REFUSED', { store: 'The cell', reason }, { cause });

/** ENOENT, EACCES and the like. */
const codeOf = (error: unknown): string =>
  types.isNativeError(error) && 'code' in error ? String(error.code) : 'unknown';

function rawValue(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const direct = env[name];
  if (direct !== undefined && direct !== '') return direct;
  const file = env[`${name}_FILE`];
  return file === undefined || file === '' ? undefined : readFileSync(file, 'utf8').trim();
}
