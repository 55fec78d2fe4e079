/** Servers for one run of the fuzzer, with a catalogue and a prepared cell; nothing of them is kept. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { postgresUrl, type RoleName, ROLES } from '../../catalogue/bootstrap.js';
import { openCatalogue } from '../../catalogue/index.js';
import { cellName } from '../../domain/ids.js';
import { settled } from '../../domain/settled.js';
import { startMongo } from '../../local/mongo.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport } from '../../local/report.js';
import supportDesk from '../../manifest/support-desk.js';
import { compose } from '../../worker/compose.js';
import { CELL_TEMPLATE, earnedMode, prepareTemplates } from '../support/prepare.js';
import { ownEnv } from '../support/servers.js';
import type { Ground } from './stage.js';

const CONTROL = 'tenantry_fuzz';
const CELL = cellName('fuzz');

export async function startGround(): Promise<{
  readonly ground: Ground;
  readonly described: Readonly<Record<string, string>>;
  close(): Promise<void>;
}> {
  const directory = await mkdtemp(join(tmpdir(), 'tenantry-fuzz-'));
  const place = { dataDir: directory, report: silentReport, env: ownEnv() };
  const [postgres, mongo, redis] = await settled([
    startPostgres({ ...place, durable: false }),
    startMongo(place),
    startRedis(place),
  ]);
  const passwords = Object.fromEntries(
    Object.keys(ROLES).map((role) => [role, randomBytes(18).toString('base64url')]),
  ) as Record<RoleName, string>;
  await prepareTemplates(postgres.url, CONTROL, passwords);
  const url = (database: string, role?: RoleName): string =>
    postgresUrl(postgres.url, database, role, role && passwords);
  const secrets: Record<string, string> = {
    OWNER: url(CELL_TEMPLATE, 'owner'),
    CONTROL: url(CELL_TEMPLATE, 'catalogue'),
    RUNTIME: url(CELL_TEMPLATE, 'runtime'),
    PURGE: url(CELL_TEMPLATE, 'purge'),
    MONGO: mongo.url,
    REDIS: redis.url,
  };
  const resolveSecret = (reference: string): string => secrets[reference.replace(/^env:/, '')] ?? '';
  const catalogue = openCatalogue({ url: url(CONTROL, 'catalogue'), name: 'tenantry-fuzz' });
  const mongoEnforcement = await earnedMode(mongo.url);
  await catalogue.cells.declare({
    name: CELL,
    postgresOwner: 'env:OWNER',
    postgresControl: 'env:CONTROL',
    postgresRuntime: 'env:RUNTIME',
    postgresPurge: 'env:PURGE',
    mongo: 'env:MONGO',
    redis: 'env:REDIS',
    mongoEnforcement,
    capacity: 1_000_000,
  });
  const rootKey = randomBytes(32);
  const log = pino({ level: 'silent' });
  const composition = compose({
    catalogue,
    manifest: supportDesk,
    rootKey,
    resolveSecret,
    poolSize: 8,
    log,
  });
  const { layouts, secrets: box, cells } = composition.dependencies;
  return {
    ground: {
      catalogue,
      cell: await cells.get(CELL),
      manifest: supportDesk,
      layouts,
      secrets: box,
      rootKey,
      resolveSecret,
      lookupUrl: url(CONTROL, 'lookup'),
      cellAdminUrl: url(CELL_TEMPLATE),
    },
    described: {
      postgres: postgres.described,
      mongo: mongo.described,
      redis: redis.described,
      mongoEnforcement,
    },
    async close() {
      await composition.close();
      await catalogue.close();
      await Promise.all([postgres.stop(), mongo.stop(), redis.stop()]);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
