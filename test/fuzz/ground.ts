/**
 * What the fuzzer stands on: a catalogue, and a prepared cell for each way by which tenants reach PostgreSQL. The cells
 * have a database each and share MongoDB and Redis.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { pino } from 'pino';
import { CELL_ROLES, CONTROL_ROLES, postgresUrl, type RoleName } from '../../catalogue/bootstrap.js';
import { type Catalogue, openCatalogue } from '../../catalogue/index.js';
import { cellName } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import { createSecretBox, type SecretBox } from '../../keys/sealed-secret.js';
import type { Found } from '../../local/find.js';
import supportDesk from '../../manifest/support-desk.js';
import type { PreparedCell } from '../../tenancy/cell-registry.js';
import { type CollectionLayout, collectionLayouts } from '../../tenancy/mongo/layout.js';
import { compose } from '../../worker/compose.js';
import { type Link, openLink } from '../support/link.js';
import { pipelines, startPgBouncer } from '../support/pgbouncer.js';
import { copyDatabase, dropDatabase } from '../support/databases.js';
import { CELL_TEMPLATE } from '../support/prepare.js';
import type { TestStack } from '../support/stack.js';

/** The tenant as a setting; as a token that the database verifies; as a setting behind PgBouncer in transaction mode. */
export type Way = 'plain' | 'hardened' | 'pooled';

/** All that there are here. */
export const waysWith = (pgbouncer: Found | undefined): [Way, ...Way[]] =>
  pgbouncer === undefined ? ['plain', 'hardened'] : ['plain', 'hardened', 'pooled'];

export interface Cell extends PreparedCell {
  readonly way: Way;
  readonly manifest: Manifest;
  /** Whether the product may prepare and pipeline its statements. */
  readonly prepares: boolean;
  /** PostgreSQL as the product reaches it. */
  readonly productUrl: string;
  /** As the product's role, with nothing of ours in between. */
  readonly product: pg.Pool;
  /** Its database as a superuser, for faults. */
  readonly admin: pg.Pool;
  /** In front of PgBouncer: its clients, to be cut. */
  readonly link: Link | undefined;
}

export interface Ground {
  readonly catalogue: Catalogue;
  readonly cells: readonly [Cell, ...Cell[]];
  readonly layouts: readonly CollectionLayout[];
  readonly secrets: SecretBox;
  readonly rootKey: Buffer;
  /** As in the product's environment. */
  readonly resolveSecret: (reference: string) => string;
  readonly lookupUrl: string;
  /** In front of MongoDB, for the product alone. */
  readonly mongoLink: Link;
  /** Fails when a connection to PostgreSQL was left open. */
  close(): Promise<void>;
}

export interface GroundOptions {
  readonly stack: Omit<TestStack, 'temporalAddress' | 'bundlePath'>;
  readonly ways: readonly [Way, ...Way[]];
  /** For the pooled way. */
  readonly pgbouncer?: Found | undefined;
}

export async function layGround({ stack, ways, pgbouncer }: GroundOptions): Promise<Ground> {
  const closing: Closing = [];
  const close = async (): Promise<void> => {
    for (const end of closing.toReversed()) await end();
  };
  try {
    const createDatabase = databasesOn(stack, closing);
    const control = await createDatabase('control', stack.controlTemplate, CONTROL_ROLES);
    const catalogue = openCatalogue({ url: control('catalogue'), name: 'tenantry-fuzz' });
    closing.push(() => catalogue.close());
    const rootKey = randomBytes(32);
    const site: Site = { stack, pgbouncer, createDatabase, catalogue, rootKey, closing };
    const [way, ...more] = ways;
    const cells: [Cell, ...Cell[]] = [await layCell(site, way)];
    for (const other of more) cells.push(await layCell(site, other));
    const mongoLink = await openLink(stack.mongoUrl);
    closing.push(() => mongoLink.close());
    const environment = new Map([
      ['env:MONGO', mongoLink.url],
      ['env:REDIS', stack.redisUrl],
      ...cells.map(({ cell, productUrl }) => [cell.postgresRuntime, productUrl] as const),
    ]);
    return {
      catalogue,
      cells,
      layouts: collectionLayouts(supportDesk),
      secrets: createSecretBox(rootKey),
      rootKey,
      resolveSecret: (reference) => environment.get(reference) ?? '',
      lookupUrl: control('lookup'),
      mongoLink,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What undoes what was opened, in its order. */
type Closing = (() => Promise<unknown>)[];
/** The URL of a database as a role, or as the superuser. */
type UrlOf = (role?: RoleName) => string;

interface Site extends Pick<GroundOptions, 'stack' | 'pgbouncer'> {
  readonly createDatabase: ReturnType<typeof databasesOn>;
  readonly catalogue: Catalogue;
  readonly rootKey: Buffer;
  readonly closing: Closing;
}

function databasesOn({ postgresUrl: adminUrl, passwords }: GroundOptions['stack'], closing: Closing) {
  const suffix = randomBytes(5).toString('hex');
  const server = new pg.Pool({ connectionString: adminUrl, max: 1 });
  // Where the servers are stopped under it, as by a signal.
  server.on('error', () => undefined);
  closing.push(() => server.end());
  return async (purpose: string, template: string, roles: readonly RoleName[]): Promise<UrlOf> => {
    const name = `fuzz_${purpose}_${suffix}`;
    await copyDatabase(server, { name, template, roles });
    closing.push(() => dropDatabase(server, name));
    return (role) => postgresUrl(adminUrl, name, role, role && passwords);
  };
}

async function layCell(site: Site, way: Way): Promise<Cell> {
  const { stack, catalogue, rootKey, closing } = site;
  const url = await site.createDatabase(way, CELL_TEMPLATE, CELL_ROLES);
  const name = cellName(`fuzz-${way}`);
  const declared = {
    name,
    postgresOwner: 'env:OWNER',
    postgresControl: 'env:CONTROL',
    postgresRuntime: `env:RUNTIME_${way.toUpperCase()}`,
    postgresPurge: 'env:PURGE',
    mongo: 'env:MONGO',
    redis: 'env:REDIS',
    mongoEnforcement: stack.mongoEnforcement,
    capacity: 1_000_000,
  };
  await catalogue.cells.declare(declared);
  const environment = new Map([
    [declared.postgresOwner, url('owner')],
    [declared.postgresControl, url('catalogue')],
    [declared.postgresRuntime, url('runtime')],
    [declared.postgresPurge, url('purge')],
    [declared.mongo, stack.mongoUrl],
    [declared.redis, stack.redisUrl],
  ]);
  const hardened = way === 'hardened';
  const manifest: Manifest = { ...supportDesk, postgres: { ...supportDesk.postgres, hardened } };
  const composition = compose({
    catalogue,
    manifest,
    rootKey,
    resolveSecret: (reference) => environment.get(reference) ?? '',
    poolSize: 4,
    log: pino({ level: 'silent' }),
  });
  closing.push(() => composition.close());
  const prepared = await composition.dependencies.cells.get(name);
  const reached =
    way === 'pooled'
      ? await behindPgBouncer(site, url('runtime'))
      : { productUrl: url('runtime'), prepares: true, link: undefined };
  const pool = (connectionString: string): pg.Pool => {
    const opened = new pg.Pool({ connectionString, max: 2 });
    opened.on('error', () => undefined);
    closing.push(() => opened.end());
    return opened;
  };
  return { ...prepared, ...reached, way, manifest, product: pool(reached.productUrl), admin: pool(url()) };
}

/** So few that clients meet each other's. */
const SERVERS = 4;

async function behindPgBouncer(
  { pgbouncer, closing }: Site,
  url: string,
): Promise<Pick<Cell, 'productUrl' | 'prepares' | 'link'>> {
  if (pgbouncer === undefined) throw new TypeError('the pooled way needs PgBouncer');
  const bouncer = await startPgBouncer(pgbouncer, { url, servers: SERVERS, prepared: 100 });
  closing.push(() => bouncer.close());
  const link = await openLink(bouncer.url);
  closing.push(() => link.close());
  return { productUrl: link.url, prepares: pipelines(pgbouncer), link };
}
