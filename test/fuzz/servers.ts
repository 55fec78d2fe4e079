/** Servers for one run of the fuzzer; nothing of them is kept. */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { type RoleName, ROLES } from '../../catalogue/bootstrap.js';
import { settled } from '../../domain/settled.js';
import { startMongo } from '../../local/mongo.js';
import { startPostgres } from '../../local/postgres.js';
import { startRedis } from '../../local/redis.js';
import { silentReport } from '../../local/report.js';
import { serverFolder } from '../support/folder.js';
import { findPgBouncer } from '../support/pgbouncer.js';
import { earnedMode, prepareTemplates, tryServer } from '../support/prepare.js';
import { ownEnv } from '../support/servers.js';
import { type Ground, layGround, waysWith } from './ground.js';

const CONTROL = 'tenantry_fuzz';

export async function startGround(): Promise<{
  readonly ground: Ground;
  readonly described: Readonly<Record<string, string>>;
  close(): Promise<void>;
}> {
  const directory = await serverFolder('fuzz');
  const place = { dataDir: directory, report: silentReport, env: ownEnv() };
  const [postgres, mongo, redis, pgbouncer] = await settled([
    startPostgres({ ...place, durable: false }),
    startMongo(place),
    startRedis(place),
    findPgBouncer(),
  ]);
  const passwords = Object.fromEntries(
    Object.keys(ROLES).map((role) => [role, randomBytes(18).toString('base64url')]),
  ) as Record<RoleName, string>;
  await prepareTemplates(postgres.url, CONTROL, passwords);
  const mongoTrial = await tryServer(mongo.url);
  const mongoEnforcement = earnedMode(mongoTrial);
  const ground = await layGround({
    stack: {
      postgresUrl: postgres.url,
      mongoUrl: mongo.url,
      redisUrl: redis.url,
      passwords,
      controlTemplate: CONTROL,
      mongoEnforcement,
      mongoTrial,
    },
    ways: waysWith(pgbouncer),
    pgbouncer,
  });
  return {
    ground,
    described: {
      postgres: postgres.described,
      pgbouncer: pgbouncer?.where ?? 'none: the pooled way is left out',
      mongo: mongo.described,
      redis: redis.described,
      mongoEnforcement,
    },
    async close() {
      await ground.close();
      await Promise.all([postgres.stop(), mongo.stop(), redis.stop()]);
      await rm(directory, { recursive: true, force: true });
    },
  };
}
