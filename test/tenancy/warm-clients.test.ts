/** Clients for probes: each logged in as its tenant and nobody else, also where it was lent to another before. */
import { once } from 'node:events';
import type { TenantId } from '../../domain/ids.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { mongoUrlWithoutCredentials } from '../../tenancy/cell-connections.js';
import { createWarmClients, type WarmClient, type WarmClients } from '../../tenancy/mongo/warm-clients.js';
import { createTenants, outcomeOf, type Tenants } from '../data-plane/mongo/support/tenants.js';
import { openLink } from '../support/link.js';
import { testStack } from '../support/stack.js';
import { until } from '../support/until.js';

let tenants: Tenants;
let ids: TenantId[];
let warmClients: WarmClients;
beforeAll(async () => {
  tenants = createTenants();
  ids = await tenants.make(3);
});
afterAll(() => tenants.close());
beforeEach(() => {
  warmClients = createWarmClients();
});
afterEach(() => warmClients.close());

const mongoUrl = (): string => mongoUrlWithoutCredentials(testStack().mongoUrl);
const id = (position: number): TenantId => ids[position] as TenantId;
const passwordOf = async (position: number): Promise<string> =>
  (await tenants.credentials.get(id(position), 'mongo')).password;

async function warmUp(position: number, url = mongoUrl()): Promise<void> {
  warmClients.warmUp(url, id(position), await passwordOf(position));
}
async function take(position: number, url = mongoUrl()): Promise<WarmClient> {
  return warmClients.take(url, id(position), await passwordOf(position));
}

/** What the server says to it about each tenant's database. */
const outcomes = ({ client }: WarmClient): Promise<unknown[]> =>
  Promise.all(ids.map((tenantId) => outcomeOf(client, tenantId)));

it('one that is given back goes to the next tenant, as that tenant and as nobody else', async () => {
  const first = await take(0);
  expect(await outcomes(first)).toEqual(['reads', 13, 13]);
  await first.giveBack();
  await warmUp(1);
  const second = await take(1);
  expect(second.client === first.client).toBe(true);
  expect(await outcomes(second)).toEqual([13, 'reads', 13]);
  await second.giveBack();
  const third = await take(2);
  expect(third.client === first.client).toBe(true);
  expect(await outcomes(third)).toEqual([13, 13, 'reads']);
  await third.close();
});

it('one that was closed goes to nobody', async () => {
  const first = await take(0);
  expect(await outcomes(first)).toEqual(['reads', 13, 13]);
  await first.close();
  const second = await take(1);
  expect(second.client === first.client).toBe(false);
  expect(await outcomes(second)).toEqual([13, 'reads', 13]);
  await second.giveBack();
});

it('what is called after its end does nothing to the tenant that has it then', async () => {
  const first = await take(0);
  expect(await outcomes(first)).toEqual(['reads', 13, 13]);
  await first.giveBack();
  await first.close();
  const second = await take(1);
  expect(second.client === first.client).toBe(true);
  expect(await outcomes(second)).toEqual([13, 'reads', 13]);
  await first.giveBack();
  const third = await take(2);
  expect(third.client === second.client).toBe(false);
  expect(await outcomes(second)).toEqual([13, 'reads', 13]);
  expect(await outcomes(third)).toEqual([13, 13, 'reads']);
  await Promise.all([second.close(), third.close()]);
  await second.giveBack();
  expect((await take(0)).client === second.client).toBe(false);
});

it('two tenants at once have a client each, and a tenant that is warmed up twice has the newer one', async () => {
  await Promise.all([warmUp(0), warmUp(1)]);
  await warmUp(0);
  const [first, second] = await Promise.all([take(0), take(1)]);
  expect(first.client === second.client).toBe(false);
  expect(await outcomes(first)).toEqual(['reads', 13, 13]);
  expect(await outcomes(second)).toEqual([13, 'reads', 13]);
  await Promise.all([first.giveBack(), second.giveBack()]);
});

it('a wrong password fails where the client is used, with the reason', async () => {
  warmClients.warmUp(mongoUrl(), id(0), 'wrong');
  const refused = warmClients.take(mongoUrl(), id(0), 'wrong');
  await expect(refused.client.db(mongoDatabaseName(id(0))).command({ ping: 1 })).rejects.toMatchObject({
    code: 18,
  });
  await refused.close();
});

it('what nobody takes, and what nobody takes again, is closed after a while', async () => {
  const link = await openLink(testStack().mongoUrl);
  try {
    warmClients = createWarmClients(50);
    const url = mongoUrlWithoutCredentials(link.url);
    const taken = await take(0, url);
    expect(await outcomes(taken)).toEqual(['reads', 13, 13]);
    const closed = once(taken.client, 'topologyClosed');
    await taken.giveBack();
    await closed;
    await warmUp(1, url);
    await until('none is left', () => link.connections() === 0);
  } finally {
    await link.close();
  }
});

it('when all are closed, one that is given back later is closed too', async () => {
  const taken = await take(0);
  expect(await outcomes(taken)).toEqual(['reads', 13, 13]);
  await warmClients.close();
  const closed = once(taken.client, 'topologyClosed');
  await taken.giveBack();
  await closed;
});

it('closing waits for those that are being given back, and none is warmed up after it', async () => {
  const link = await openLink(mongoUrl());
  try {
    const taken = await take(0, link.url);
    expect(await outcomes(taken)).toEqual(['reads', 13, 13]);
    let isGivenBack = false;
    void taken.giveBack().then(() => {
      isGivenBack = true;
    });
    await warmClients.close();
    expect(isGivenBack).toBe(true);
    await warmUp(1, link.url);
    // Half of the time for which one would be kept.
    await until('none is left', () => link.connections() === 0, 5_000);
  } finally {
    await link.close();
  }
});
