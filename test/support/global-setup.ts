/** Starts one stack for all test files, and makes what they copy. */
import { randomBytes } from 'node:crypto';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROLES } from '../../catalogue/bootstrap.js';
import { terminalReport } from '../../local/report.js';
import { type Stack, startStack } from '../../local/stack.js';
import { BUNDLE_PATH, ensureBundle } from '../../worker/bundle.js';
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
    // A copy: whoever builds anew meanwhile changes nothing for these tests.
    ensureBundle().then(() => copyFile(BUNDLE_PATH, bundlePath)),
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
