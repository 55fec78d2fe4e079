/** What the API works with; handed in, so that a test or another process composes it in its own way. */
import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Catalogue } from '../catalogue/index.js';
import type { Config } from '../domain/config.js';
import type { Manifest } from '../domain/manifest.js';

export interface ApiDeps {
  readonly catalogue: Catalogue;
  readonly temporal: Client;
  readonly manifest: Manifest;
  readonly config: Pick<
    Config,
    | 'TENANTRY_API_TOKEN'
    | 'TENANTRY_API_BODY_LIMIT'
    | 'TENANTRY_ADMISSION_TIMEOUT_MS'
    | 'TENANTRY_TEMPORAL_TASK_QUEUE'
  >;
  readonly logger: Logger;
  /** Where the metrics go; a fresh one by default. */
  readonly registry?: Registry;
  /** Aborted when the process is about to end: those who wait get their answer now. */
  readonly closing?: AbortSignal;
}
