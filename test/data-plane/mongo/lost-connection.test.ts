/**
 * A connection that breaks while a statement is being sent. Between the socket's `destroy` and its 'close' the driver
 * (mongodb 7.9.0) still hands the connection out, and then waits for ever.
 */
import { Socket } from 'node:net';
import type { TenantId } from '../../../domain/ids.js';
import { openLink } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { contextOf, createTenants } from './support/tenants.js';

it('a statement that meets a connection which is just breaking ends, and its tenant goes on', async () => {
  const link = await openLink(testStack().mongoUrl);
  const tenants = createTenants(link.url);
  const [id] = (await tenants.make(1)) as [TenantId];
  const pool = tenants.open({ poolSizePerClient: 1, serverSelectionMs: 1_000, socketTimeoutMs: 1_000 });
  const transcripts = pool.forTenant(contextOf(id)).collection('transcripts');
  await transcripts.findOne({});
  const { destroy } = Socket.prototype;
  const through = Number(new URL(link.url).port);
  const asked: Promise<unknown>[] = [];
  let meets = true;
  // At the very moment at which one of the driver's sockets breaks.
  Socket.prototype.destroy = function (this: Socket, ...args: [Error?]) {
    const destroyed = destroy.apply(this, args);
    if (meets && this.remotePort === through && asked.length < 8)
      asked.push(
        transcripts.findOne({}).catch((error: { code: string }) => error.code),
        transcripts
          .updateMany({}, { $set: { text: 'again' } })
          .catch((error: { code: string }) => error.code),
      );
    return destroyed;
  };
  try {
    link.cut();
    await until('connections have broken', () => asked.length >= 4);
    meets = false;
    const ends = await Promise.all(asked);
    expect(ends).toContain('STORE_UNAVAILABLE');
    expect(pool.stats().leases).toBe(0);
    expect(await transcripts.findOne({})).toBeNull();
  } finally {
    Socket.prototype.destroy = destroy;
    await tenants.close();
    await link.close();
  }
});
