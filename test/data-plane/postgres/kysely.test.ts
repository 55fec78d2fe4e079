/** One Kysely object of a product, made by `tenantPool`, for all its tenants. */
import { randomUUID } from 'node:crypto';
import { Kysely, PostgresDialect, sql } from 'kysely';
import type { TenantId } from '../../../domain/ids.js';
import {
  addCustomer,
  addMessage,
  closeConversations,
  db,
  type Desk as Tables,
  openConversation,
  waiting,
} from '../../../examples/kysely/desk.js';
import { currentTenant } from '../../../tenancy/index.js';
import { codeOf, type Desk, openDesk } from './adapters-support.js';

let desk: Desk;
let acme: TenantId;
let globex: TenantId;

beforeAll(async () => {
  desk = await openDesk();
});
afterAll(() => desk.close());
beforeEach(async () => {
  [acme, globex] = [await desk.tenant(), await desk.tenant()];
});
afterEach(async () => {
  await desk.noOpenTransactions();
});

const names = async (): Promise<string[]> => {
  const rows = await db.selectFrom('customers').select('name').orderBy('name').execute();
  return rows.map(({ name }) => name);
};

test('a desk is worked on by each tenant with its own customers, conversations and messages', async () => {
  const work = (name: string) => async () => {
    // The same address for both: unique among a tenant's own.
    const customer = await addCustomer('ann@example.com', name);
    const first = await openConversation(customer, 'A bill', 'Too high');
    await addMessage(db, first, 'Far too high');
    await openConversation(customer, 'A parcel', 'Lost');
    const before = await waiting();
    return { before, closed: await closeConversations(customer), after: await waiting() };
  };
  const [ann, annie] = await Promise.all([
    desk.as(acme, work('Ann of Acme')),
    desk.as(globex, work('Ann of Globex')),
  ]);
  const seen = (name: string) => ({
    before: [
      { id: expect.any(String), subject: 'A bill', name, messages: '2' },
      { id: expect.any(String), subject: 'A parcel', name, messages: '1' },
    ],
    closed: 2n,
    after: [],
  });
  expect(ann).toEqual(seen('Ann of Acme'));
  expect(annie).toEqual(seen('Ann of Globex'));
});

test('tenants at the same time through the one object meet their own rows alone, in transactions too', async () => {
  const tenants = [acme, globex, ...(await Promise.all([desk.tenant(), desk.tenant(), desk.tenant()]))];
  for (const tenant of tenants) await desk.as(tenant, () => addCustomer('owner@example.com', tenant));
  const wrong: unknown[] = [];
  const check = (tenant: TenantId, rows: readonly { name: string }[]): void => {
    if (rows.length !== 1 || rows[0]?.name !== tenant) wrong.push(rows);
  };
  const all = (on: Kysely<Tables>) => on.selectFrom('customers').select('name').execute();
  const turn = (tenant: TenantId, inTransaction: boolean) =>
    desk.as(tenant, async () => {
      if (!inTransaction) return check(tenant, await all(db));
      await db.transaction().execute(async (trx) => {
        check(tenant, await all(trx));
        // Beside the transaction, on its own.
        check(tenant, await all(db));
        check(tenant, await all(trx));
      });
    });
  await Promise.all(
    Array.from({ length: 500 }, (_, i) => turn(tenants[i % tenants.length] as TenantId, i % 3 === 0)),
  );
  expect(wrong).toEqual([]);
});

test('what fails in a transaction leaves nothing of it', async () => {
  await desk.as(acme, async () => {
    const customer = await addCustomer('ann@example.com', 'Ann');
    const failing = db.transaction().execute(async (trx) => {
      await trx.updateTable('customers').set({ name: 'Anna' }).execute();
      await addMessage(trx, randomUUID(), 'to no conversation');
    });
    expect(await codeOf(failing)).toBe('23503');
    expect(await names()).toEqual(['Ann']);
    expect(await codeOf(openConversation(randomUUID(), 'Of nobody', 'Hello'))).toBe('23503');
    expect(await codeOf(addCustomer('ann@example.com', 'Again'))).toBe('23505');
    expect(await closeConversations(customer)).toBe(0n);
  });
});

test('a failed statement that is swallowed fails the transaction, which does not look committed', async () => {
  await desk.as(acme, async () => {
    await addCustomer('ann@example.com', 'Ann');
    const swallowing = db.transaction().execute(async (trx) => {
      await trx.updateTable('customers').set({ name: 'Anna' }).execute();
      await addMessage(trx, randomUUID(), 'to no conversation').catch(() => undefined);
    });
    expect(await codeOf(swallowing)).toBe('STORE_REFUSED');
    expect(await names()).toEqual(['Ann']);
  });
});

test('savepoints take back what came after them and keep the rest', async () => {
  await desk.as(acme, async () => {
    const customer = await addCustomer('ann@example.com', 'Ann');
    const trx = await db.startTransaction().execute();
    await trx.updateTable('customers').set({ name: 'Anna' }).execute();
    const saved = await trx.savepoint('before_the_message').execute();
    expect(await codeOf(addMessage(saved as unknown as Kysely<Tables>, randomUUID(), 'lost'))).toBe('23503');
    const back = await saved.rollbackToSavepoint('before_the_message').execute();
    const released = await back.releaseSavepoint('before_the_message').execute();
    await released.commit().execute();
    const { name } = await db
      .selectFrom('customers')
      .select('name')
      .where('id', '=', customer)
      .executeTakeFirstOrThrow();
    expect(name).toBe('Anna');

    const abandoned = await db.startTransaction().execute();
    await abandoned.deleteFrom('customers').execute();
    await abandoned.rollback().execute();
    expect(await names()).toEqual(['Anna']);
  });
});

test('isolation level and access mode are those of the transaction', async () => {
  await desk.as(acme, async () => {
    const begin = db.transaction().setIsolationLevel('serializable').setAccessMode('read only');
    const modes = await begin.execute(async (trx) => {
      const { rows } = await sql<{ level: string; only: string }>`
        SELECT current_setting('transaction_isolation') AS level,
               current_setting('transaction_read_only') AS only`.execute(trx);
      return rows;
    });
    expect(modes).toEqual([{ level: 'serializable', only: 'on' }]);
    const writing = begin.execute((trx) => trx.deleteFrom('customers').execute());
    expect(await codeOf(writing)).toBe('25006');
  });
});

test('a transaction that is carried into another tenant is refused there, and nothing of it stays', async () => {
  await desk.as(globex, () => addCustomer('gus@example.com', 'Gus'));
  await desk.as(acme, async () => {
    const carried = db.transaction().execute(async (trx) => {
      await trx.insertInto('customers').values(customer(acme)).execute();
      return desk.across(globex, () => trx.selectFrom('customers').selectAll().execute());
    });
    expect(await codeOf(carried)).toBe('NESTED_TENANT_CONTEXT');
    expect(await names()).toEqual([]);
    // The object itself goes on as whoever is current.
    expect(await desk.across(globex, names)).toEqual(['Gus']);
  });
});

test('an object of one tenant alone is refused in another', async () => {
  const { own, pool } = await desk.as(acme, async () => {
    const { pool } = currentTenant().pg;
    const own = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) }).withSchema('app');
    await own.insertInto('customers').values(customer(acme)).execute();
    return { own, pool };
  });
  const read = () => own.selectFrom('customers').selectAll().execute();
  expect(await desk.as(acme, read)).toHaveLength(1);
  expect(await codeOf(desk.as(globex, read))).toBe('NESTED_TENANT_CONTEXT');
  expect(await codeOf(desk.as(globex, () => pool.query('SELECT FROM app.customers')))).toBe(
    'NESTED_TENANT_CONTEXT',
  );
});

test('without a tenant there is no statement', async () => {
  expect(await codeOf(names())).toBe('NO_TENANT_CONTEXT');
  expect(await codeOf(db.transaction().execute(async () => 1))).toBe('NO_TENANT_CONTEXT');
  expect(await codeOf(desk.as(acme, () => desk.tenantry.asPlatform('a test', names)))).toBe(
    'NO_TENANT_CONTEXT',
  );
});

test('a row of another tenant can be neither written nor found by its id', async () => {
  const gus = await desk.as(globex, () => addCustomer('gus@example.com', 'Gus'));
  await desk.as(acme, async () => {
    expect(await codeOf(db.insertInto('customers').values(customer(globex)).execute())).toBe('42501');
    expect(await db.selectFrom('customers').selectAll().where('id', '=', gus).execute()).toEqual([]);
    expect(await codeOf(openConversation(gus, 'Of another', 'Hello'))).toBe('23503');
    const { numDeletedRows } = await db
      .deleteFrom('customers')
      .where('tenant_id', '=', globex)
      .executeTakeFirstOrThrow();
    expect(numDeletedRows).toBe(0n);
  });
  expect(await desk.as(globex, names)).toEqual(['Gus']);
});

test('what would outlive a statement on a shared connection is refused', async () => {
  await desk.as(acme, async () => {
    for (const text of [
      `SET app.tenant_id = '${globex}'`,
      'CREATE TEMP TABLE mine (id int)',
      'PREPARE mine AS SELECT 1',
      'LISTEN news',
      'BEGIN; SELECT 1',
    ])
      expect(await codeOf(sql.raw(text).execute(db))).toBe('STATEMENT_REFUSED');
    const inside = db.transaction().execute((trx) => sql.raw('SET LOCAL ROLE postgres').execute(trx));
    expect(await codeOf(inside)).toBe('STATEMENT_REFUSED');
  });
});

const customer = (tenant: TenantId) => ({
  tenant_id: tenant,
  id: randomUUID(),
  email: `${randomUUID()}@example.com`,
  name: 'Ann',
  created_at: new Date(),
});
