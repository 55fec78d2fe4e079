// `npm start`: the stack in .tenantry/, until Ctrl-C.

import path from 'node:path';
import { ensureBundle } from '../worker/bundle.js';
import { showDemoTenants } from './demo.js';
import { prepareEnvironment } from './environment.js';
import { startProcesses } from './processes.js';
import { terminalReport } from './report.js';
import { reasonOf } from './reason.js';
import { withoutPassword } from './server.js';
import { startStack } from './stack.js';

async function main(): Promise<number> {
  const report = terminalReport();
  const asked = new AbortController();
  const stopAsked = new Promise<void>((resolve) => {
    asked.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => asked.abort(new Error(`stopped by ${signal}`)));
  }
  // The parent holds a channel to us; when it is killed, we end in good order instead of staying behind.
  process.on('disconnect', () => asked.abort(new Error('the process that started this one is gone')));
  try {
    const dataDir = path.resolve('.tenantry');
    const stack = await startStack({
      dataDir,
      persistent: true,
      report,
      signal: asked.signal,
    });
    try {
      for (const { described, url } of [stack.postgres, stack.mongo, stack.redis, stack.temporal]) {
        report.info(`${described}\n    ${withoutPassword(url)}`);
      }
      const [{ env, token }] = await Promise.all([
        prepareEnvironment(stack, dataDir, report),
        ensureBundle(),
      ]);
      const processes = await startProcesses({ dataDir, env, report, signal: asked.signal });
      try {
        const { apiUrl } = processes;
        await showDemoTenants({ apiUrl, token: token.value, env, report, signal: asked.signal });
        report.info(`\nAPI           ${apiUrl}/v1/tenants`);
        report.info(`API docs      ${apiUrl}/docs`);
        if (stack.temporalUiUrl) report.info(`Temporal UI   ${stack.temporalUiUrl}`);
        if (token.isNew) report.info(`API token     ${token.value}  (shown this once)`);
        report.info(`Its file      ${path.relative('.', token.file)}`);
        report.info('Ready. Ctrl-C stops all of it.');
        await stopAsked;
      } finally {
        await processes.stop();
      }
    } finally {
      const stopping = report.progress('stopping');
      await stack.stop();
      stopping.done();
    }
    return 0;
  } catch (error) {
    if (asked.signal.aborted) return 0;
    report.info(`\n${reasonOf(error)}`);
    return 1;
  }
}

void main().then((code) => process.exit(code));
