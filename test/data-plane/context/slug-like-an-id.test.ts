/** A slug that looks like an id would name two tenants at once: none is taken, and one that is there enters nobody. */
import { randomUUID } from 'node:crypto';
import { withClient } from '../../../catalogue/bootstrap.js';
import { newTenantId } from '../../../domain/ids.js';
import { currentTenant, type Tenantry } from '../../../tenancy/index.js';
import { header } from '../../../tenancy/express/resolvers.js';
import { createWorld, type World } from '../../support/world.js';
import { until } from '../../support/until.js';
import { change, codeOf, insertTenant, open, type Row } from './support.js';

let world: World;
let tenantry: Tenantry;
let victim: Row;
let planted: Row;

beforeAll(async () => {
  world = await createWorld();
  tenantry = open(world);
  await tenantry.listening;
  victim = await insertTenant(world);
  planted = await plant(victim.tenantId);
});
afterAll(async () => {
  await tenantry.close();
  await world.close();
});

/** As it may be there from before the catalogue refused it. */
async function plant(slug: string): Promise<Row> {
  await asOwner(`ALTER TABLE tenantry.tenant DISABLE TRIGGER slug_is_no_id`);
  try {
    return await insertTenant(world, { slug });
  } finally {
    await asOwner(`ALTER TABLE tenantry.tenant ENABLE TRIGGER slug_is_no_id`);
  }
}

const asOwner = (text: string): Promise<void> =>
  withClient(world.url('control'), (client) => client.query(text));

const entered = (idOrSlug: string) => tenantry.runWithTenant(idOrSlug, () => currentTenant().tenantId);

test('text that is the id of one tenant and the slug of another enters neither, whoever is in memory already', async () => {
  expect(await codeOf(() => entered(planted.slug))).toBe('TENANT_NOT_FOUND');
  expect(await entered(victim.slug)).toBe(victim.tenantId);
  expect(await entered(planted.tenantId)).toBe(planted.tenantId);
  // Now both are known.
  for (let round = 0; round < 3; round++)
    expect(await codeOf(() => entered(planted.slug))).toBe('TENANT_NOT_FOUND');
  const request = { headers: { 'x-tenant': planted.slug } } as unknown as Parameters<
    ReturnType<typeof header>['find']
  >[0];
  const key = header('x-tenant').find(request);
  expect(await tenantry.handingOn.directory.find(key ?? 'slug:none')).toBeUndefined();
});

test('what was signed for the tenant whose id it is enters that one: it has no slugs in it', async () => {
  const snapshot = await tenantry.runWithTenant(victim.slug, () => tenantry.snapshot());
  expect(await tenantry.restore(snapshot, () => currentTenant().tenantId)).toBe(victim.tenantId);
});

test('a slug that looks like the id of nobody enters nobody by it', async () => {
  const { slug, tenantId } = await plant(randomUUID());
  expect(await codeOf(() => entered(slug))).toBe('TENANT_NOT_FOUND');
  expect(await entered(tenantId)).toBe(tenantId);
});

test('an id that is said is known without a question from its first use on, and forgotten with its tenant', async () => {
  const { tenantId } = await insertTenant(world);
  const { directory } = tenantry.handingOn;
  expect(await entered(tenantId)).toBe(tenantId);
  expect(directory.peek(`said:${tenantId}`)).toMatchObject({ tenantId });
  await change(world, tenantId, { state: 'inactive' });
  await until(
    'it is refused',
    async () => (await codeOf(() => entered(tenantId))) === 'TENANT_INACTIVE',
    1_000,
  );
});

describe('the catalogue', () => {
  test('takes no slug that looks like an id, of whatever version', async () => {
    for (const slug of [newTenantId(), victim.tenantId, '00000000-0000-0000-0000-000000000000'])
      expect(await codeOf(() => insertTenant(world, { slug }))).toBe('23514');
    const { tenantId } = await insertTenant(world);
    const renamed = world.catalogue.pool.query('UPDATE tenant SET slug = $2 WHERE id = $1', [
      tenantId,
      randomUUID(),
    ]);
    expect(await codeOf(() => renamed)).toBe('23514');
  });

  test('lets a tenant that has one be changed, so that it can be blocked', async () => {
    await change(world, planted.tenantId, { state: 'suspended', mode: 'blocked' });
    await until(
      'it is blocked',
      async () => (await codeOf(() => entered(planted.tenantId))) === 'TENANT_SUSPENDED',
    );
  });
});
