/** A product's process in front of two tenants, and servers that end with the test that opened them. */
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import type { Tenantry } from '../../../tenancy/index.js';
import { createWorld, type World } from '../../support/world.js';
import { insertTenant, open, type Row } from '../context/support.js';

export interface Product {
  readonly world: World;
  readonly tenantry: Tenantry;
  readonly acme: Row;
  readonly beta: Row;
  /** @returns the port, of this machine alone */
  listen(
    server: Pick<Server, 'listen' | 'address' | 'close'> & { closeAllConnections?(): void },
  ): Promise<number>;
  /** Called when the test is over. */
  atEnd(end: () => void): void;
  /** Ends what a test has opened. */
  settle(): void;
  close(): Promise<void>;
}

export async function openProduct(): Promise<Product> {
  const world = await createWorld();
  const tenantry = open(world);
  await tenantry.listening;
  const [acme, beta] = [await insertTenant(world), await insertTenant(world)];
  const ends: (() => void)[] = [];
  return {
    world,
    tenantry,
    acme,
    beta,
    async listen(server) {
      const listening = once(server as Server, 'listening');
      server.listen(0, '127.0.0.1');
      await listening;
      ends.push(() => {
        server.close();
        server.closeAllConnections?.();
      });
      return (server.address() as AddressInfo).port;
    },
    atEnd: (end) => void ends.push(end),
    settle() {
      for (const end of ends.splice(0).toReversed()) end();
    },
    async close() {
      await tenantry.close();
      await world.close();
    },
  };
}
