// What the middleware costs: Express with `tenancy()` against Express without, the tenant being in memory.

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express, { type Express, type RequestHandler } from 'express';
import { prototypesOf } from '../../api/server.js';
import { cellName, newTenantId } from '../../domain/ids.js';
import { EnteredTenant, type CellStores } from '../../tenancy/context/entered-tenant.js';
import { accessOf } from '../../tenancy/context/access.js';
import type { TenantEntry } from '../../tenancy/context/directory.js';
import { createTenancy } from '../../tenancy/express/tenancy.js';
import { currentTenant, findCurrentTenant, subdomain } from '../../tenancy/index.js';
import { type Benchmark, type Figure, figure, inTurn } from '../harness.js';
import { startLoadThread } from '../http-load.js';

const ROUNDS = 9;
const REQUESTS = 40_000;
// Requests are pipelined, so that the server and not whoever asks is what is waited for.
const CONNECTIONS = 8;
const DEEP = 8;

/** @returns `express_vs_without`, and the rates behind it */
export async function measureExpress(say: (line: string) => void): Promise<Record<string, Figure>> {
  const entry: TenantEntry = {
    tenantId: newTenantId(),
    slug: 'acme',
    cell: cellName('default'),
    plan: 'team',
    state: 'active',
    mode: 'open',
    generation: 1,
  };
  // Never asked for: this is about the way in.
  const stores = {} as CellStores;
  const middleware = createTenancy(
    {
      directory: { peek: (key) => (key === 'slug:acme' ? entry : null), find: async () => undefined },
      admit: (found, come) => new EnteredTenant(found, accessOf(found), stores, come),
    },
    { resolve: [subdomain('example.com')] },
  );
  const sides = {
    without: await serve([]),
    with: await serve([middleware]),
  };
  const thread = startLoadThread();
  const load = ({ port }: Side): Promise<number> =>
    thread.run({
      port,
      host: 'acme.example.com',
      path: '/tickets',
      requests: REQUESTS,
      connections: CONNECTIONS,
      deep: DEEP,
    });
  try {
    for (const side of Object.values(sides)) await load(side);
    const times = await inTurn(ROUNDS, {
      without: () => load(sides.without),
      with: () => load(sides.with),
    });
    const rate = (samples: readonly number[]): number[] => samples.map((ms) => (REQUESTS / ms) * 1_000);
    const ratios = times.without.map((without, round) => without / (times.with[round] ?? Number.NaN));
    say(`express: ${REQUESTS} requests, ${CONNECTIONS} connections x ${DEEP}, ${ROUNDS} rounds`);
    return {
      express_vs_without: figure(ratios, { is: '>=', value: 0.85 }),
      express_with_per_s: figure(rate(times.with)),
      express_without_per_s: figure(rate(times.without)),
    };
  } finally {
    await thread.close();
    for (const { server } of Object.values(sides)) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }
}

const benchmark: Benchmark = {
  name: 'data-plane-express',
  run: async (say) => ({ figures: await measureExpress(say), environment: {} }),
};
export default benchmark;

interface Side {
  readonly server: Server;
  readonly port: number;
}

async function serve(middleware: readonly RequestHandler[]): Promise<Side> {
  const app: Express = express();
  app.disable('x-powered-by');
  for (const one of middleware) app.use(one);
  app.get('/tickets', (_request, response) => {
    const tenant = middleware.length > 0 ? currentTenant() : findCurrentTenant();
    response.setHeader('content-type', 'application/json');
    response.end(tenant === undefined ? '{"tenant":"none"}' : '{"tenant":"some"}');
  });
  const server = createServer(prototypesOf(app), app);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}
