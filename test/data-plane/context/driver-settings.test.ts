/** A product sets for the whole process how node-postgres reads values: for its own statements, and not for ours. */
import pg from 'pg';
import type { TenantCredentials } from '../../../tenancy/index.js';
import { createWorld, type World } from '../../support/world.js';
import { insertTenant, labelledStores, open } from './support.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

const { INT4, BYTEA, UUID } = pg.types.builtins;

test('tenants and their passwords are read as ever, and handed on', async () => {
  const { tenantId, slug } = await insertTenant(world);
  const { secrets } = world.dependencies;
  for (const version of [9, 10])
    await world.catalogue.pool.query('INSERT INTO credential VALUES ($1, $2, $3, $4)', [
      tenantId,
      'mongo',
      version,
      secrets.seal(`password-${version}`, { tenantId, store: 'mongo', version }),
    ]);
  const before = new Map([INT4, BYTEA, UUID].map((type) => [type, pg.types.getTypeParser(type, 'text')]));
  pg.types.setTypeParser(INT4, (text) => BigInt(text));
  pg.types.setTypeParser(BYTEA, (text) => text);
  pg.types.setTypeParser(UUID, (text) => text.toUpperCase());
  pg.defaults.binary = true;
  let credentials: TenantCredentials | undefined;
  const tenantry = open(world, {
    stores: (_cell, given) => {
      credentials = given;
      return labelledStores();
    },
  });
  try {
    const { text, generation } = await tenantry.runWithTenant(slug, (tenant) => ({
      text: tenantry.snapshot(),
      generation: tenant.generation,
    }));
    expect(generation).toBe(1);
    expect(await tenantry.restore(text, (tenant) => tenant.tenantId)).toBe(tenantId);
    expect(await credentials?.get(tenantId, 'mongo')).toEqual({ version: 10, password: 'password-10' });
  } finally {
    pg.defaults.binary = false;
    for (const [type, parse] of before) pg.types.setTypeParser(type, parse as (text: string) => unknown);
    await tenantry.close();
  }
});
