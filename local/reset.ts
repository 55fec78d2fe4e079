// `npm run reset`: stops what a killed stack left running, and empties .tenantry/.

import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { reported, terminalReport } from './report.js';
import { reasonOf } from './reason.js';
import { stackHolder } from './stack.js';
import { stopLeftover } from './supervise.js';

/** Refuses while a stack runs there. */
export async function reset(dataDir: string, report = terminalReport()): Promise<void> {
  const holder = stackHolder(dataDir);
  if (holder !== undefined) {
    throw new Error(
      `Process ${holder} runs a stack in ${dataDir}.\nTo mend it: kill ${holder}, then npm run reset`,
    );
  }
  if (!existsSync(dataDir)) return;
  // Servers without their stack: their data must not be taken away beneath them.
  for (const entry of readdirSync(dataDir, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const stopSignal = entry.name === 'postgres' ? 'SIGINT' : 'SIGTERM';
    await stopLeftover({ name: entry.name, folder: path.join(dataDir, entry.name), report, stopSignal });
  }
  await reported(report, `emptying ${dataDir}`, async () =>
    rmSync(dataDir, { recursive: true, force: true }),
  );
}

if (require.main === module) {
  reset(path.resolve('.tenantry')).catch((error: unknown) => {
    process.stderr.write(`${reasonOf(error)}\n`);
    process.exitCode = 1;
  });
}
