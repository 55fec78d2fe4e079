import { rm } from 'node:fs/promises';
import type { TestGlobals } from './global-setup.js';

export default async function globalTeardown(): Promise<void> {
  const running = (globalThis as TestGlobals).tenantryTestStack;
  if (running === undefined) return;
  await running.stack.stop();
  await rm(running.directory, { recursive: true, force: true });
}
