/** One Drizzle object of a product, made by `tenantPool`, for all its tenants. */
import { randomUUID } from 'node:crypto';
import { eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import type { TenantId } from '../../../domain/ids.js';
import {
  addCustomer,
  closeConversations,
  db,
  importMessages,
  openConversation,
  waiting,
} from '../../../examples/drizzle/desk.js';
import { customers, messages } from '../../../examples/drizzle/schema.js';
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

const names = async (): Promise<string[]> =>
  (await db.select({ name: customers.name }).from(customers).orderBy(customers.name)).map(({ name }) => name);

test('a desk is worked on by each tenant with its own customers, conversations and messages', async () => {
  const work = (name: string) => async () => {
    // The same address for both: unique among a tenant's own.
    const customer = await addCustomer('ann@example.com', name);
    const first = await openConversation(customer, 'A bill', 'Too high');
    await importMessages(first, [['Far too high']]);
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
      { id: expect.any(String), subject: 'A bill', name, messages: 2 },
      { id: expect.any(String), subject: 'A parcel', name, messages: 1 },
    ],
    closed: 2,
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
  const all = (on: Pick<typeof db, 'select'>) => on.select({ name: customers.name }).from(customers);
  const turn = (tenant: TenantId, inTransaction: boolean) =>
    desk.as(tenant, async () => {
      if (!inTransaction) return check(tenant, await all(db));
      await db.transaction(async (tx) => {
        check(tenant, await all(tx));
        // Beside the transaction, on its own.
        check(tenant, await all(db));
        check(tenant, await all(tx));
      });
    });
  await Promise.all(
    Array.from({ length: 500 }, (_, i) => turn(tenants[i % tenants.length] as TenantId, i % 3 === 0)),
  );
  expect(wrong).toEqual([]);
});

test('dates, JSON and text come back as Drizzle reads them', async () => {
  await desk.as(acme, async () => {
    const conversationId = await openConversation(await addCustomer('ann@example.com', 'Ann'), 'A', 'first');
    const written = { createdAt: new Date('2026-01-02T03:04:05.678Z'), attributes: { from: 'mail' } };
    const [row] = await db
      .insert(messages)
      .values({ ...written, conversationId, body: 'Grüße' })
      .returning();
    expect(row).toMatchObject({ ...written, body: 'Grüße', tenantId: acme });
  });
});

test('what fails in a transaction leaves nothing of it', async () => {
  await desk.as(acme, async () => {
    await addCustomer('ann@example.com', 'Ann');
    const failing = db.transaction(async (tx) => {
      await tx.update(customers).set({ name: 'Anna' });
      await tx.insert(messages).values({ conversationId: randomUUID(), body: 'to no conversation' });
    });
    expect(await codeOf(failing)).toBe('23503');
    const undone = db.transaction(async (tx) => {
      await tx.delete(customers);
      tx.rollback();
    });
    await expect(undone).rejects.toThrow('Rollback');
    expect(await names()).toEqual(['Ann']);
    expect(await codeOf(addCustomer('ann@example.com', 'Again'))).toBe('23505');
  });
});

test('a failed statement that is swallowed fails the transaction, which does not look committed', async () => {
  await desk.as(acme, async () => {
    await addCustomer('ann@example.com', 'Ann');
    const swallowing = db.transaction(async (tx) => {
      await tx.update(customers).set({ name: 'Anna' });
      await tx
        .insert(messages)
        .values({ conversationId: randomUUID(), body: 'to no conversation' })
        .catch(() => undefined);
    });
    expect(await codeOf(swallowing)).toBe('STORE_REFUSED');
    expect(await names()).toEqual(['Ann']);
  });
});

test('a nested transaction that fails takes back its own part and leaves the rest', async () => {
  await desk.as(acme, async () => {
    const conversation = await openConversation(await addCustomer('ann@example.com', 'Ann'), 'A', 'first');
    // PostgreSQL has no character 0 in a text.
    const batches = [['second'], ['third', 'not \0 this'], ['fourth']];
    expect(await importMessages(conversation, batches)).toEqual({ refused: 1 });
    const bodies = await db.select({ body: messages.body }).from(messages).orderBy(messages.body);
    expect(bodies.map(({ body }) => body)).toEqual(['first', 'fourth', 'second']);
  });
});

test('isolation level and access mode are those of the transaction', async () => {
  await desk.as(acme, async () => {
    const config = {
      isolationLevel: 'repeatable read',
      accessMode: 'read only',
      deferrable: true,
    } as const;
    const rows = await db.transaction(
      async (tx) =>
        (
          await tx.execute(sql`SELECT current_setting('transaction_isolation') AS level,
                                      current_setting('transaction_read_only') AS only`)
        ).rows,
      config,
    );
    expect(rows).toEqual([{ level: 'repeatable read', only: 'on' }]);
    expect(await codeOf(db.transaction((tx) => tx.delete(customers), config))).toBe('25006');
  });
});

test('a transaction that is carried into another tenant is refused there, and nothing of it stays', async () => {
  await desk.as(globex, () => addCustomer('gus@example.com', 'Gus'));
  await desk.as(acme, async () => {
    const carried = db.transaction(async (tx) => {
      await tx.insert(customers).values({ email: 'ann@example.com', name: 'Ann' });
      return desk.across(globex, () => tx.select().from(customers));
    });
    expect(await codeOf(carried)).toBe('NESTED_TENANT_CONTEXT');
    expect(await names()).toEqual([]);
    // The object itself goes on as whoever is current.
    expect(await desk.across(globex, names)).toEqual(['Gus']);
  });
});

test('an object of one tenant alone is refused in another', async () => {
  const own = await desk.as(acme, async () => {
    await addCustomer('ann@example.com', 'Ann');
    return drizzle(currentTenant().pg.pool);
  });
  const read = () => own.select().from(customers);
  expect(await desk.as(acme, read)).toHaveLength(1);
  expect(await codeOf(desk.as(globex, read))).toBe('NESTED_TENANT_CONTEXT');
  expect(await codeOf(desk.as(globex, () => own.transaction(read)))).toBe('NESTED_TENANT_CONTEXT');
});

test('without a tenant there is no statement', async () => {
  expect(await codeOf(names())).toBe('NO_TENANT_CONTEXT');
  expect(await codeOf(db.transaction(async () => 1))).toBe('NO_TENANT_CONTEXT');
  // What a query is made of may be made anywhere; who it is for is known when it is sent.
  const query = db.select({ name: customers.name }).from(customers);
  expect(await desk.as(acme, () => query)).toEqual([]);
});

test('a row of another tenant can be neither written nor found by its id', async () => {
  const gus = await desk.as(globex, () => addCustomer('gus@example.com', 'Gus'));
  await desk.as(acme, async () => {
    const foreign = db.insert(customers).values({ tenantId: globex, email: 'ann@example.com', name: 'Ann' });
    expect(await codeOf(foreign)).toBe('42501');
    expect(await db.select().from(customers).where(eq(customers.id, gus))).toEqual([]);
    expect(await codeOf(openConversation(gus, 'Of another', 'Hello'))).toBe('23503');
    expect((await db.delete(customers).where(eq(customers.tenantId, globex))).rowCount).toBe(0);
  });
  expect(await desk.as(globex, names)).toEqual(['Gus']);
});

test('what would outlive a statement on a shared connection is refused', async () => {
  await desk.as(acme, async () => {
    for (const text of [`SET app.tenant_id = '${globex}'`, 'CREATE TEMP TABLE mine (id int)', 'LISTEN news'])
      expect(await codeOf(db.execute(sql.raw(text)))).toBe('STATEMENT_REFUSED');
    const inside = db.transaction((tx) => tx.execute(sql.raw('SET LOCAL ROLE postgres')));
    expect(await codeOf(inside)).toBe('STATEMENT_REFUSED');
  });
});
