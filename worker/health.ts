/** The worker's /livez, /readyz and /metrics. On loopback: they are for the machine's own supervisor and scraper. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Worker } from '@temporalio/worker';
import { collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';

export interface HealthServer {
  readonly port: number;
  close(): Promise<void>;
}

export async function serveHealth(options: {
  worker: Worker;
  port: number;
  /** Whether each cell is prepared, by name. */
  cells: () => Record<string, boolean>;
  /** Shown beside the worker's own. */
  metrics: readonly Metric[];
}): Promise<HealthServer> {
  const { worker, port, cells, metrics } = options;
  const registry = workerMetrics(worker);
  for (const metric of metrics) registry.registerMetric(metric);
  const server = createServer((request, response) => {
    const reply = (status: number, body: string, type = 'application/json'): void => {
      response.writeHead(status, { 'content-type': type }).end(body);
    };
    switch (request.url) {
      case '/livez':
        return reply(200, '{"status":"ok"}');
      case '/readyz': {
        const status = worker.getState();
        const ready = status === 'RUNNING' && Object.values(cells()).every(Boolean);
        return reply(ready ? 200 : 503, JSON.stringify({ status, cells: cells() }));
      }
      case '/metrics':
        registry.metrics().then(
          (text) => reply(200, text, registry.contentType),
          () => reply(500, '{}'),
        );
        return;
      default:
        return reply(404, '{}');
    }
  });
  await listen(server, port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function workerMetrics(worker: Worker): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (
    name: string,
    help: string,
    read: (status: ReturnType<Worker['getStatus']>) => number,
  ): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read(worker.getStatus()));
      },
    });
  };
  gauge('tenantry_worker_activities', 'Activities under way', (s) => s.numInFlightActivities);
  gauge(
    'tenantry_worker_local_activities',
    'Local activities under way',
    (s) => s.numInFlightLocalActivities,
  );
  gauge(
    'tenantry_worker_activations',
    'Workflow activations under way',
    (s) => s.numInFlightWorkflowActivations,
  );
  gauge('tenantry_worker_cached_workflows', 'Workflows in the sticky cache', (s) => s.numCachedWorkflows);
  return registry;
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}
