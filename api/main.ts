/** The API process: reads the environment, composes, serves, and ends when it is asked to. */
import { isIP } from 'node:net';
import type { Logger } from 'pino';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { openCatalogue } from '../catalogue/index.js';
import { readConfig, redacted } from '../domain/config.js';
import { createLogger } from '../domain/log.js';
import { loadManifest } from '../domain/load-manifest.js';
import { forgetAbandoned } from './abandoned.js';
import { longestAdmission } from './admit.js';
import { createApp } from './app.js';
import { serve } from './server.js';
import { createTemporalClient } from './temporal.js';

const VARIABLES = [
  'TENANTRY_CATALOGUE_URL',
  'TENANTRY_TEMPORAL_ADDRESS',
  'TENANTRY_TEMPORAL_NAMESPACE',
  'TENANTRY_TEMPORAL_TASK_QUEUE',
  'TENANTRY_TEMPORAL_TLS',
  'TENANTRY_TEMPORAL_API_KEY',
  'TENANTRY_API_HOST',
  'TENANTRY_API_PORT',
  'TENANTRY_API_TOKEN',
  'TENANTRY_API_BODY_LIMIT',
  'TENANTRY_ADMISSION_TIMEOUT_MS',
  'TENANTRY_MANIFEST',
  'TENANTRY_LOG_LEVEL',
] as const;

export async function main(): Promise<void> {
  const config = readConfig(VARIABLES);
  const logger = createLogger({ level: config.TENANTRY_LOG_LEVEL, name: 'tenantry-api' });
  logger.info({ config: redacted(config) }, 'starting');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const catalogue = openCatalogue({ url: config.TENANTRY_CATALOGUE_URL, name: 'tenantry-api' });
  const temporal = createTemporalClient(config);
  const closing = new AbortController();
  const manifest = await loadManifest(config.TENANTRY_MANIFEST);
  const app = createApp({ catalogue, temporal, manifest, config, logger, registry, closing: closing.signal });
  const server = await serve(app, { host: config.TENANTRY_API_HOST, port: config.TENANTRY_API_PORT });
  logger.info({ url: server.url }, 'the API listens');
  warnIfReachable(config.TENANTRY_API_HOST, logger);
  forgetAbandoned(catalogue, config.TENANTRY_ADMISSION_TIMEOUT_MS, logger, closing.signal);

  const end = async (signal: string): Promise<void> => {
    if (closing.signal.aborted) return;
    logger.info({ signal }, 'the API ends');
    closing.abort();
    await server.close(longestAdmission(config));
    await Promise.allSettled([catalogue.close(), temporal.connection.close()]);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void end(signal));
}

/** One token lets its holder do everything, so until there is access control only this machine should reach it. */
function warnIfReachable(host: string, logger: Logger): void {
  const loopback = host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
  if (!loopback) logger.warn({ host }, 'the API listens beyond this machine, and one token opens all of it');
}

if (require.main === module) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
