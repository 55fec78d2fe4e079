/** Starts one stack for all test files, and makes what they copy. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { ROLES } from '../../catalogue/bootstrap.js';
import { terminalReport } from '../../local/report.js';
import { type Stack, startStack } from '../../local/stack.js';
import { buildBundle } from '../../worker/bundle.js';
import { removeAbandonedFolders, serverFolder } from './folder.js';
import { earnedMode, prepareTemplates, tryServer } from './prepare.js';
import { publishStack } from './stack.js';

export interface TestGlobals {
  tenantryTestStack?: { stack: Stack; directory: string };
}

export default async function globalSetup(): Promise<void> {
  await removeAbandonedFolders();
  const directory = await serverFolder('test');
  const stack = await startStack({
    dataDir: join(directory, 'data'),
    persistent: false,
    durable: false,
    report: terminalReport(),
  });
  (globalThis as TestGlobals).tenantryTestStack = { stack, directory };
  const passwords = Object.fromEntries(
    Object.keys(ROLES).map((role) => [role, randomBytes(18).toString('base64url')]),
  ) as { [K in keyof typeof ROLES]: string };
  const controlTemplate = 'tenantry_template';
  const bundlePath = join(directory, 'workflow-bundle.js');
  const [mongoTrial] = await Promise.all([
    tryServer(stack.mongo.url),
    buildBundle(bundlePath),
    prepareTemplates(stack.postgres.url, controlTemplate, passwords),
  ]);
  publishStack({
    postgresUrl: stack.postgres.url,
    mongoUrl: stack.mongo.url,
    redisUrl: stack.redis.url,
    temporalAddress: stack.temporal.url,
    passwords,
    controlTemplate,
    mongoEnforcement: earnedMode(mongoTrial),
    mongoTrial,
    bundlePath,
  });
}
