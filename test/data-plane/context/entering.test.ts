/** Entering a tenant: who is let in, who may not be entered from where, and what leaving for the platform takes. */
import { createLogger } from '../../../domain/log.js';
import type { TenantState } from '../../../domain/tenant-state.js';
import {
  currentTenant,
  findCurrentTenant,
  type PlatformAccess,
  type Tenantry,
} from '../../../tenancy/index.js';
import { accessOf } from '../../../tenancy/context/access.js';
import type { TenantEntry } from '../../../tenancy/context/lookups.js';
import { startProvision } from '../../support/provision.js';
import { createWorld, type World } from '../../support/world.js';
import { codeOf, insertTenant, open, ownerOf } from './support.js';

let world: World;
let tenantry: Tenantry;

beforeAll(async () => {
  world = await createWorld();
  tenantry = open(world);
});
afterAll(async () => {
  await tenantry.close();
  await world.close();
});

test('a tenant that was provisioned is entered by its slug and by its id, with all that is known of it', async () => {
  await world.startWorker();
  const asked = await world.ask();
  const { admission, handle } = await startProvision(world, asked);
  await admission;
  await handle.result();
  const { tenantId, slug } = asked;
  const seen = await tenantry.runWithTenant(slug, () => currentTenant(), {
    principal: { id: 'ada' },
    correlationId: 'c-1',
  });
  expect(seen).toMatchObject({
    tenantId,
    slug,
    cell: world.cell,
    plan: 'team',
    mode: 'open',
    generation: 1,
    principal: { id: 'ada' },
    policyVersion: 0,
    keyVersion: 0,
    correlationId: 'c-1',
  });
  await tenantry.runWithTenant(tenantId, (tenant) => {
    expect(tenant).toBe(currentTenant());
    expect([tenant.pg, tenant.mongo, tenant.redis].map(ownerOf)).toEqual([tenantId, tenantId, tenantId]);
    expect(tenant.pg).toBe(tenant.pg);
  });
  expect(findCurrentTenant()).toBeUndefined();
});

test('what is no text is nobody, and nobody else’s look-up is disturbed by it', async () => {
  const { slug, tenantId } = await insertTenant(world, { state: 'active' });
  const spoken = [tenantId, 'no uuid'];
  const odd = { toString: () => spoken.shift() } as string;
  const entering = [odd, slug, [slug] as unknown as string].map((who) =>
    codeOf(() => tenantry.runWithTenant(who, () => 'in')),
  );
  expect(await Promise.all(entering)).toEqual(['TENANT_NOT_FOUND', { came: 'in' }, 'TENANT_NOT_FOUND']);
});

test('without a context there is an error, and never a default', () => {
  expect(() => currentTenant()).toThrow(expect.objectContaining({ code: 'NO_TENANT_CONTEXT' }));
});

const refusals: [TenantState, string | undefined, unknown][] = [
  ['pending', undefined, 'TENANT_NOT_READY'],
  ['provisioning', undefined, 'TENANT_NOT_READY'],
  ['failed', undefined, 'TENANT_NOT_READY'],
  ['active', undefined, { came: 'open' }],
  // Left over from a suspension.
  ['active', 'blocked', { came: 'open' }],
  ['inactive', undefined, 'TENANT_INACTIVE'],
  ['suspended', 'read-only', { came: 'read-only' }],
  ['suspended', 'blocked', 'TENANT_SUSPENDED'],
  ['suspended', 'open', 'TENANT_SUSPENDED'],
  ['deprovisioning', 'read-only', 'TENANT_SUSPENDED'],
  ['purging', undefined, 'TENANT_GONE'],
  ['deleted', undefined, 'TENANT_GONE'],
];
test.each(refusals)('one that is %s (%s) gives %j', async (state, mode = 'open', expected) => {
  const { slug } = await insertTenant(world, { state, mode });
  expect(await codeOf(() => tenantry.runWithTenant(slug, (tenant) => tenant.mode))).toEqual(expected);
});

test.each([
  'nobody',
  '',
  'NOBODY',
  '../etc',
  'a'.repeat(500),
  '0190a3d0-0000-7000-8000-000000000000',
  'x; DROP TABLE tenant',
])('nobody is called %j', async (name) => {
  expect(await codeOf(() => tenantry.runWithTenant(name, () => 'entered'))).toBe('TENANT_NOT_FOUND');
});

test('another tenant is not entered from within one, and the same one is, with what it came with', async () => {
  const [a, b] = [await insertTenant(world), await insertTenant(world)];
  await tenantry.runWithTenant(
    a.slug,
    async () => {
      expect(await codeOf(() => tenantry.runWithTenant(b.slug, () => 'entered'))).toBe(
        'NESTED_TENANT_CONTEXT',
      );
      expect(currentTenant().tenantId).toBe(a.tenantId);
      const inner = await tenantry.runWithTenant(a.tenantId, () => currentTenant());
      expect(inner).toMatchObject({ tenantId: a.tenantId, correlationId: 'c-2', principal: { id: 'eve' } });
    },
    { correlationId: 'c-2', principal: { id: 'eve' } },
  );
});

test('a tenant kept from before is not used as another', async () => {
  const [a, b] = [await insertTenant(world), await insertTenant(world)];
  const kept = await tenantry.runWithTenant(a.slug, (tenant) => tenant);
  expect(ownerOf(kept.pg)).toBe(a.tenantId);
  await tenantry.runWithTenant(b.slug, () => {
    for (const store of ['pg', 'mongo', 'redis'] as const)
      expect(() => kept[store]).toThrow(expect.objectContaining({ code: 'NESTED_TENANT_CONTEXT' }));
  });
});

test('a tenant cannot be written to: who it is stays who it is', async () => {
  const [a, b] = [await insertTenant(world), await insertTenant(world)];
  await tenantry.runWithTenant(a.slug, (tenant) => {
    for (const change of [{ tenantId: b.tenantId }, { mode: 'open' }, { pg: undefined }])
      expect(() => Object.assign(tenant, change)).toThrow(TypeError);
    expect(() => Object.assign(Object.getPrototypeOf(tenant) as object, { pg: 1 })).toThrow(TypeError);
    expect([tenant.pg, tenant.mongo, tenant.redis].map(ownerOf)).toEqual(
      [a, a, a].map((row) => row.tenantId),
    );
  });
});

test('a state that is not known, of a newer catalogue, lets nobody in', () => {
  const entry = { state: 'migrating', mode: 'open' } as unknown as TenantEntry;
  expect(() => accessOf(entry)).toThrow(expect.objectContaining({ code: 'TENANT_NOT_READY' }));
});

describe('asPlatform', () => {
  test('leaves the tenant, is recorded before it begins, and lets any other be entered', async () => {
    const [a, b] = [await insertTenant(world), await insertTenant(world)];
    const seen: PlatformAccess[] = [];
    const own = open(world, { onPlatformAccess: (access) => void seen.push(access) });
    await own.runWithTenant(
      a.slug,
      async () => {
        await own.asPlatform('monthly report', async () => {
          expect(seen).toEqual([
            { reason: 'monthly report', from: a.tenantId, correlationId: 'c-3', at: expect.any(Date) },
          ]);
          expect(findCurrentTenant()).toBeUndefined();
          await own.runWithTenant(b.slug, () => expect(currentTenant().tenantId).toBe(b.tenantId));
        });
        expect(currentTenant().tenantId).toBe(a.tenantId);
      },
      { correlationId: 'c-3' },
    );
    await own.close();
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('the audit log is away');
      },
    ],
    ['rejects', () => Promise.reject(new Error('the audit log is away'))],
  ])('is refused when its record %s', async (_, onPlatformAccess) => {
    const own = open(world, { onPlatformAccess });
    let ran = false;
    expect(await codeOf(() => own.asPlatform('repair', () => (ran = true)))).toBe('INTERNAL');
    expect(ran).toBe(false);
    await own.close();
  });

  test.each(['', '  \n', 'x'.repeat(501)])('is refused with the reason %j', async (reason) => {
    await expect(tenantry.asPlatform(reason, () => 'ran')).rejects.toThrow(TypeError);
  });

  test('is one line of the log by default, with ids and no names', async () => {
    const lines: string[] = [];
    const own = open(world, {
      log: createLogger({ level: 'info', destination: { write: (line) => void lines.push(line) } }),
    });
    const { tenantId, slug } = await insertTenant(world);
    await own.runWithTenant(slug, () => own.asPlatform('support case 7', () => undefined));
    const [line, ...more] = lines.filter((one) => one.includes('platform access'));
    expect(more).toEqual([]);
    expect(JSON.parse(line ?? '')).toMatchObject({
      platformAccess: { reason: 'support case 7', from: tenantId },
    });
    expect(line).not.toContain(slug);
    await own.close();
  });
});

test('a cell is opened once, by nobody, and tried again when it could not be', async () => {
  let opened = 0;
  const scopes: unknown[] = [];
  const own = open(world, {
    stores: () => {
      opened++;
      scopes.push(findCurrentTenant());
      if (opened === 1) throw new Error('away');
      return {
        pg: { forTenant: () => ({}) },
        mongo: { forTenant: () => ({}) },
        redis: { forTenant: () => ({}) },
        close: async () => undefined,
      } as never;
    },
  });
  const [a, b] = [await insertTenant(world), await insertTenant(world)];
  await expect(own.runWithTenant(a.slug, () => 1)).rejects.toThrow('away');
  await Promise.all([a, b, a, b].map(({ slug }) => own.runWithTenant(slug, () => 1)));
  expect([opened, scopes]).toEqual([2, [undefined, undefined]]);
  await own.close();
});
