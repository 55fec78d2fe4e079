// The worker and the API as processes of their own, like in production; watched and stopped like the servers.

import path from 'node:path';
import type { Report } from './report.js';
import { type Supervised, supervise } from './supervise.js';

export interface Processes {
  readonly apiUrl: string;
  stop(): Promise<void>;
}

export async function startProcesses(o: {
  readonly dataDir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
  readonly signal: AbortSignal;
}): Promise<Processes> {
  const [worker, api] = await Promise.allSettled([
    startNode(o, 'the worker', 'worker', 'TENANTRY_WORKER_HEALTH_PORT', '/readyz'),
    startNode(o, 'the API', 'api', 'TENANTRY_API_PORT', '/livez'),
  ]);
  const stop = async (): Promise<void> => {
    // The API first: what it has admitted, the worker may still finish.
    if (api.status === 'fulfilled') await api.value.stop();
    if (worker.status === 'fulfilled') await worker.value.stop();
  };
  if (worker.status === 'fulfilled' && api.status === 'fulfilled')
    return { apiUrl: `http://127.0.0.1:${api.value.port}`, stop };
  await stop();
  const failed = [worker, api].find((one) => one.status === 'rejected');
  throw failed?.reason;
}

function startNode(
  o: { dataDir: string; env: NodeJS.ProcessEnv; report: Report; signal: AbortSignal },
  name: string,
  room: 'worker' | 'api',
  portVariable: string,
  readyPath: string,
): Promise<Supervised> {
  return supervise({
    name,
    folder: path.join(o.dataDir, room),
    report: o.report,
    signal: o.signal,
    launch: (port) => ({
      command: process.execPath,
      args: [path.join(__dirname, '..', room, 'main.js')],
      env: { ...o.env, [portVariable]: String(port) },
    }),
    async answers(port) {
      const response = await fetch(`http://127.0.0.1:${port}${readyPath}`, {
        signal: AbortSignal.timeout(2_000),
      });
      if (!response.ok) throw new Error(`${name} is not ready: ${await response.text()}`);
    },
    stopSignal: 'SIGTERM',
    readyWithinMs: 60_000,
    stopWithinMs: 20_000,
  });
}
