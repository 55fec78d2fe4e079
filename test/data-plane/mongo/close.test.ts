/** The close ends what has not ended by itself, wherever that is: none of it waits for its own time-outs. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { newTenantId, type TenantId } from '../../../domain/ids.js';
import type { ScopedMongoPool } from '../../../tenancy/mongo/scoped.js';
import type { Link } from '../../support/link.js';
import { testStack } from '../../support/stack.js';
import { until } from '../../support/until.js';
import { contextOf, createTenantsBehindLink, type Tenants } from './support/tenants.js';

/** Longer than the tests. */
const PATIENT = {
  maxClients: 1,
  serverSelectionMs: 60_000,
  socketTimeoutMs: 60_000,
  loginPatienceMs: 60_000,
};

let tenants: Tenants;
let ids: TenantId[];
let link: Link;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ link, tenants, close } = await createTenantsBehindLink());
  ids = await tenants.make(2);
});
afterAll(() => close());

const ask = (pool: ScopedMongoPool, tenantId = ids[0] as TenantId): Promise<unknown> =>
  pool
    .forTenant(contextOf(tenantId))
    .collection('transcripts')
    .findOne({})
    .catch((error: { code: string }) => error.code);

/** Takes connections and never says anything. */
async function openSilence() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    socket.resume();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `mongodb://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    connections: () => sockets.size,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

it('a client that was handed on, to a tenant whose password is not told, is closed', async () => {
  const before = link.connections();
  const pool = tenants.open({
    ...PATIENT,
    credentials: {
      get: (tenantId, ...rest) =>
        tenantId === ids[1] ? new Promise(() => undefined) : tenants.credentials.get(tenantId, ...rest),
    },
  });
  await ask(pool);
  const asked = ask(pool, ids[1]);
  await until('the client is handed on', () => pool.stats().handedOn === 1);
  await pool.close(0);
  expect(await asked).toBe('STORE_UNAVAILABLE');
  expect(pool.stats()).toMatchObject({ clients: 0, connecting: 0, leases: 0 });
  await until('its connections are gone', () => link.connections() <= before);
});

it('nobody is warned of a leak while many clients log in', async () => {
  const warn = jest.spyOn(process, 'emitWarning');
  const many = Array.from({ length: 12 }, newTenantId);
  // More listeners to one signal than Node.js thinks there should be; none of them gets anywhere.
  const pool = tenants.open({ credentials: { get: () => new Promise(() => undefined) } });
  const asked = many.map((tenantId) => ask(pool, tenantId));
  await pool.close(0);
  expect(new Set(await Promise.all(asked))).toEqual(new Set(['STORE_UNAVAILABLE']));
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});

describe('with a server that does not answer a login', () => {
  it('who waits for the login of one more connection is told at once', async () => {
    const silence = await openSilence();
    const pool = tenants.open(PATIENT);
    try {
      await ask(pool);
      link.leadTo(silence.url);
      const asked = Array.from({ length: 5 }, () => ask(pool));
      await until('connections log in', () => silence.connections() >= 2);
      // By the connection that was there.
      expect(await Promise.race(asked)).toBeNull();
      await pool.close(0);
      expect(new Set(await Promise.all(asked))).toEqual(new Set([null, 'STORE_UNAVAILABLE']));
      await until('they are cut', () => silence.connections() === 0);
      expect(pool.stats()).toMatchObject({ clients: 0, leases: 0 });
    } finally {
      link.leadTo(testStack().mongoUrl);
      silence.close();
    }
  });

  it('who waits for the first is told at once', async () => {
    const silence = await openSilence();
    const pool = tenants.open(PATIENT);
    try {
      link.leadTo(silence.url);
      const asked = ask(pool);
      await until('it connects', () => silence.connections() > 0);
      await pool.close(0);
      expect(await asked).toBe('STORE_UNAVAILABLE');
      expect(pool.stats()).toMatchObject({ clients: 0, connecting: 0 });
    } finally {
      link.leadTo(testStack().mongoUrl);
      silence.close();
    }
  });
});
