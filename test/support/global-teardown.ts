import { rm } from 'node:fs/promises';
import { discard } from './discard.js';
import type { TestGlobals } from './global-setup.js';

export default async function globalTeardown(): Promise<void> {
  const running = (globalThis as TestGlobals).tenantryTestStack;
  if (running === undefined) return;
  const { postgres, mongo, redis, temporal } = running.stack;
  await discard([postgres, mongo, redis, temporal]);
  await running.stack.stop();
  await rm(running.directory, { recursive: true, force: true });
}
