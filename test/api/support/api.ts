/** An API in a test's world, and a client that holds every answer against the API's own OpenAPI document. */
import { pino } from 'pino';
import { longestAdmission } from '../../../api/admit.js';
import { type ApiDeps, createApp } from '../../../api/app.js';
import { type RunningServer, serve } from '../../../api/server.js';
import { createTemporalClient } from '../../../api/temporal.js';
import { openCatalogue } from '../../../catalogue/index.js';
import { readConfig } from '../../../domain/config.js';
import { exchange } from '../../support/exchange.js';
import type { World } from '../../support/world.js';
import { conforms, rememberDocument } from './conforms.js';

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed body. */
  readonly json: Record<string, unknown>;
  /** `id` and `tenantId` of an operation; empty for anything else. */
  readonly id: string;
  readonly tenantId: string;
}

export interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is. */
  readonly raw?: string | Buffer;
  /** null: without. */
  readonly token?: string | null;
  readonly signal?: AbortSignal;
}

export interface Api {
  readonly url: string;
  readonly token: string;
  readonly server: RunningServer;
  readonly closing: AbortController;
  /** What was logged so far, one object for each line. */
  readonly logged: Record<string, unknown>[];
  readonly send: (path: string, asked?: Asked) => Promise<Reply>;
  /** Writes bytes on a connection of its own and gives all that comes back until it ends. */
  write(bytes: string): Promise<string>;
  close(): Promise<void>;
}

export interface ApiOptions {
  readonly admissionTimeout?: number;
  readonly bodyLimit?: number;
  /** Other servers than the world's. */
  readonly catalogueUrl?: string;
  readonly temporalAddress?: string;
  readonly taskQueue?: string;
}

export async function startApi(world: World, options: ApiOptions = {}): Promise<Api> {
  const config = readConfig(
    [
      'TENANTRY_CATALOGUE_URL',
      'TENANTRY_TEMPORAL_ADDRESS',
      'TENANTRY_TEMPORAL_NAMESPACE',
      'TENANTRY_TEMPORAL_TASK_QUEUE',
      'TENANTRY_TEMPORAL_TLS',
      'TENANTRY_TEMPORAL_API_KEY',
      'TENANTRY_API_TOKEN',
      'TENANTRY_API_BODY_LIMIT',
      'TENANTRY_ADMISSION_TIMEOUT_MS',
    ],
    {
      ...world.env,
      ...variable('TENANTRY_CATALOGUE_URL', options.catalogueUrl),
      ...variable('TENANTRY_TEMPORAL_ADDRESS', options.temporalAddress),
      ...variable('TENANTRY_TEMPORAL_TASK_QUEUE', options.taskQueue),
      ...variable('TENANTRY_API_BODY_LIMIT', options.bodyLimit),
      ...variable('TENANTRY_ADMISSION_TIMEOUT_MS', options.admissionTimeout),
    },
  );
  const logged: Record<string, unknown>[] = [];
  const logger = pino(
    { level: 'debug' },
    { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const catalogue = openCatalogue({ url: config.TENANTRY_CATALOGUE_URL, name: 'test-api', max: 5 });
  const temporal = createTemporalClient(config);
  const closing = new AbortController();
  const deps: ApiDeps = {
    catalogue,
    temporal,
    manifest: world.manifest,
    config,
    logger,
    closing: closing.signal,
  };
  const server = await serve(createApp(deps), { host: '127.0.0.1', port: 0 });
  const token = config.TENANTRY_API_TOKEN;
  await rememberDocument(server.url);

  return {
    url: server.url,
    token,
    server,
    closing,
    logged,
    async send(path, asked = {}) {
      const { method = asked.body === undefined && asked.raw === undefined ? 'GET' : 'POST' } = asked;
      const response = await fetch(`${server.url}${path}`, {
        method,
        headers: {
          ...(asked.token === null ? {} : { authorization: `Bearer ${asked.token ?? token}` }),
          ...(asked.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...asked.headers,
        },
        ...(asked.body === undefined && asked.raw === undefined
          ? {}
          : { body: asked.raw ?? JSON.stringify(asked.body) }),
        ...(asked.signal === undefined ? {} : { signal: asked.signal }),
        redirect: 'manual',
      });
      const text = await response.text();
      const isJson = /json/.test(response.headers.get('content-type') ?? '') && text !== '';
      const json = isJson ? (JSON.parse(text) as Record<string, unknown>) : {};
      const [id, tenantId] = [json['id'], json['tenantId']].map((one) =>
        typeof one === 'string' ? one : '',
      );
      const reply: Reply = {
        status: response.status,
        headers: response.headers,
        text,
        json,
        id: id ?? '',
        tenantId: tenantId ?? '',
      };
      if (method !== 'HEAD') conforms(server.url, method, path, reply);
      return reply;
    },
    write: (bytes) => exchange(server.port, bytes),
    async close() {
      closing.abort();
      await server.close(longestAdmission(config));
      await temporal.connection.close();
      await catalogue.close();
    },
  };
}

const variable = (name: string, value: string | number | undefined): Record<string, string> =>
  value === undefined ? {} : { [name]: String(value) };
