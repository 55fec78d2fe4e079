/** A connection takes another's place only when the server has seen the end of that one: the bound is the server's. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { TenantId } from '../../../domain/ids.js';
import { testStack } from '../../support/stack.js';
import { contextOf, createTenants, type Tenants } from './support/tenants.js';

let tenants: Tenants;
let proxy: CountingProxy;
beforeAll(async () => {
  proxy = await countingProxy(new URL(testStack().mongoUrl));
  tenants = createTenants(proxy.url, testStack().mongoUrl);
});
afterAll(async () => {
  await tenants.close();
  await proxy.close();
});

it('never has more connections than its bound as the server sees it, however often clients are handed on', async () => {
  const ids = await tenants.make(8);
  const pool = tenants.open({ maxClients: 3, poolSizePerClient: 1, waitMs: 30_000, hangUpMs: 30_000 });
  await Promise.all(
    ids.map(async (id) => {
      for (let round = 0; round < 20; round++)
        await pool.forTenant(contextOf(id)).collection('transcripts').findOne({});
    }),
  );
  const { handedOn, connectionBound } = pool.stats();
  expect(handedOn).toBeGreaterThan(50);
  expect(connectionBound).toBe(6);
  expect(proxy.peak()).toBeLessThanOrEqual(connectionBound);
  await pool.close();
});

it('does not wait for ever for a server that does not hang up', async () => {
  const ids = await tenants.make(2);
  const pool = tenants.open({ maxClients: 1, waitMs: 30_000, hangUpMs: 50 });
  proxy.keepEnds();
  for (const id of [...ids, ...ids])
    expect(await pool.forTenant(contextOf(id)).collection('transcripts').findOne({})).toBeNull();
  expect(pool.stats().evicted).toBe(3);
  await pool.close();
});

it('does not wait for it at all when the pool is closed', async () => {
  const [first, second] = (await tenants.make(2)) as [TenantId, TenantId];
  const pool = tenants.open({ maxClients: 1, waitMs: 600_000, hangUpMs: 600_000 });
  proxy.keepEnds();
  expect(await pool.forTenant(contextOf(first)).collection('transcripts').findOne({})).toBeNull();
  const waiting = expect(
    pool.forTenant(contextOf(second)).collection('transcripts').findOne({}),
  ).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  await pool.close(0);
  await waiting;
});

interface CountingProxy {
  readonly url: string;
  /** The most connections that the server had at once. */
  peak(): number;
  /** From now on nobody hears that the server has hung up. */
  keepEnds(): void;
  close(): Promise<void>;
}

async function countingProxy(to: URL): Promise<CountingProxy> {
  const [near, far] = [new Set<Socket>(), new Set<Socket>()];
  let peak = 0;
  let endsComeThrough = true;
  // Each half by itself: the client's end goes to the server, and the client hears of the server's.
  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: to.hostname, port: Number(to.port), allowHalfOpen: true });
    near.add(client.on('error', () => undefined).on('close', () => near.delete(client)));
    far.add(upstream.on('error', () => client.destroy()).on('close', () => far.delete(upstream)));
    peak = Math.max(peak, far.size);
    client.pipe(upstream);
    upstream.pipe(client, { end: false });
    upstream.on('end', () => {
      if (endsComeThrough) client.end();
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = new URL(to);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    peak: () => peak,
    keepEnds() {
      endsComeThrough = false;
    },
    async close() {
      for (const socket of [...near, ...far]) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
