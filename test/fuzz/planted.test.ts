/** The isolation fuzzer finds each flaw that is planted in PostgreSQL, in Redis, or in the product. */
import { redisUserName } from '../../domain/names.js';
import type { Found } from '../../local/find.js';
import type { CellStores } from '../../tenancy/context/entered-tenant.js';
import type { ScopedPostgres } from '../../tenancy/postgres/scoped.js';
import { findPgBouncer } from '../support/pgbouncer.js';
import { shortRun } from './short-run.js';
import type { Stage } from './stage.js';

let pgbouncer: Found | undefined;
// It may have to be installed.
beforeAll(async () => {
  pgbouncer = await findPgBouncer();
}, 300_000);

const asSuperuser =
  (statement: string) =>
  async ({ ground }: Stage) => {
    for (const { admin } of ground.cells) await admin.query(statement);
  };

describe('a flaw that is planted is found:', () => {
  test('a policy that lets everybody read a table', async () => {
    const found = await shortRun(102, {
      prepare: asSuperuser(
        'CREATE POLICY everybody ON app.customers FOR SELECT TO tenantry_runtime USING (true)',
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'postgres' });
  });

  test('a policy that lets anybody write in the name of another', async () => {
    const found = await shortRun(103, {
      prepare: asSuperuser(
        'CREATE POLICY anybody ON app.customers FOR INSERT TO tenantry_runtime WITH CHECK (true)',
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
  });

  test('a policy that does not read the gate: a suspended tenant goes on', async () => {
    const found = await shortRun(104, {
      operations: 40_000,
      prepare: asSuperuser(
        `ALTER POLICY tenant_select ON app.customers
           USING (tenant_id = (SELECT current_setting('app.tenant_id')::uuid))`,
      ),
    });
    expect(found.findings[0]?.what).toMatch(/although it was blocked before it began/);
  });

  test('a Redis user whose keys are all keys', async () => {
    const found = await shortRun(105, {
      operations: 200_000,
      prepare: async ({ ground, subjects }) => {
        for (const { tenantId } of subjects)
          await ground.cells[0].redis.acl('SETUSER', redisUserName(tenantId), 'allkeys');
      },
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'redis' });
  });

  test('a handle of one tenant that is given to another: it is refused, which is no failure of a fault', async () => {
    const found = await shortRun(106, { around: keepingTheFirstHandle });
    expect(found.wrong).toBe(0);
    expect(found.unexpected).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ store: 'postgres' });
  });

  test('in a hardened cell, a token that is taken without being verified', async () => {
    const found = await shortRun(108, {
      ways: ['hardened'],
      operations: 40_000,
      prepare: asSuperuser(
        `CREATE OR REPLACE FUNCTION tenantry.verified_tenant() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER
           RETURN pg_catalog.left(pg_catalog.current_setting('app.tenant_token'), 36)::uuid`,
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({
      way: 'hardened',
      kind: expect.stringMatching(/^past the data plane: (token|name)/) as string,
    });
  });

  test('in a hardened cell, a gate that goes by the plain setting', async () => {
    const found = await shortRun(109, {
      ways: ['hardened'],
      operations: 40_000,
      prepare: asSuperuser(
        `ALTER POLICY own_gate ON tenantry.gate USING (tenant_id = current_setting('app.tenant_id')::uuid)`,
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({ way: 'hardened' });
  });

  test('behind PgBouncer, a tenant that is set for the session and not for the transaction', async () => {
    if (pgbouncer === undefined) return;
    const found = await shortRun(110, {
      ways: ['pooled'],
      pgbouncer,
      operations: 40_000,
      prepare: asSuperuser(
        `CREATE OR REPLACE FUNCTION tenantry.enter(tenant uuid, statement_ms integer, idle_ms integer) RETURNS void
           LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             IF coalesce(current_setting('app.entered', true), '') NOT IN ('', tenant::text) THEN
               RAISE EXCEPTION USING ERRCODE = 'TN001';
             END IF;
             PERFORM set_config('app.entered', tenant::text, true), set_config('app.tenant_id', tenant::text, false);
           END $$`,
      ),
    });
    expect(found.wrong).toBeGreaterThan(0);
    expect(found.findings[0]).toMatchObject({
      way: 'pooled',
      kind: 'past the data plane: without a tenant',
      what: expect.stringMatching(/^it was shown what is tenant/) as string,
    });
  });
});

/** As a cache does that forgets to ask whose it is. */
function keepingTheFirstHandle(stores: CellStores): CellStores {
  let kept: ScopedPostgres | undefined;
  return {
    ...stores,
    pg: { forTenant: (context) => (kept ??= stores.pg.forTenant(context)) },
  };
}
