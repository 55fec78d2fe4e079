/**
 * A support desk's queries with Kysely. One object for all tenants: each statement and transaction is the tenant's who
 * is current when it begins, and the policies of the tables hold it to that tenant's rows.
 */
import { randomUUID } from 'node:crypto';
import { type ColumnType, type Generated, Kysely, PostgresDialect, sql, type Transaction } from 'kysely';
import { currentTenant, tenantPool } from '../../tenancy/index.js'; // In a product: from 'tenantry'.

interface Owned {
  tenant_id: string;
  id: string;
  created_at: Generated<Date>;
}
export interface Desk {
  customers: Owned & { email: string; name: string };
  conversations: Owned & { customer_id: string; subject: string; open: boolean };
  messages: Owned & {
    conversation_id: string;
    body: string;
    attributes: ColumnType<Record<string, string> | null, string | null, string | null>;
  };
}

export const db = new Kysely<Desk>({ dialect: new PostgresDialect({ pool: tenantPool() }) }).withSchema(
  'app',
);

export async function addCustomer(email: string, name: string): Promise<string> {
  const { id } = await db
    .insertInto('customers')
    .values({ ...fresh(), email, name })
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}

/** The conversation and its first message, or neither. */
export function openConversation(customerId: string, subject: string, body: string): Promise<string> {
  return db.transaction().execute(async (trx) => {
    const { id } = await trx
      .insertInto('conversations')
      .values({ ...fresh(), customer_id: customerId, subject, open: true })
      .returning('id')
      .executeTakeFirstOrThrow();
    await addMessage(trx, id, body);
    return id;
  });
}

export async function addMessage(on: Kysely<Desk> | Transaction<Desk>, conversationId: string, body: string) {
  await on
    .insertInto('messages')
    .values({ ...fresh(), conversation_id: conversationId, body, attributes: null })
    .execute();
}

/** No condition on the tenant: the policies are one. A join names it for its index, which begins with it. */
export function waiting() {
  return db
    .selectFrom('conversations as c')
    .innerJoin('customers as p', (on) =>
      on.onRef('p.tenant_id', '=', 'c.tenant_id').onRef('p.id', '=', 'c.customer_id'),
    )
    .leftJoin('messages as m', (on) =>
      on.onRef('m.tenant_id', '=', 'c.tenant_id').onRef('m.conversation_id', '=', 'c.id'),
    )
    .where('c.open', '=', true)
    .groupBy(['c.id', 'c.subject', 'p.name'])
    .orderBy('c.subject')
    .select(({ fn }) => ['c.id', 'c.subject', 'p.name', fn.count<string>('m.id').as('messages')])
    .execute();
}

/** How many there were. */
export async function closeConversations(customerId: string): Promise<bigint> {
  const { numUpdatedRows } = await db
    .updateTable('conversations')
    .set({ open: false })
    .where('customer_id', '=', customerId)
    .where('open', '=', true)
    .executeTakeFirstOrThrow();
  return numUpdatedRows;
}

/** The tenant is written into each row, and a row of another's is refused by the policies. */
const fresh = () => ({ tenant_id: currentTenant().tenantId, id: randomUUID(), created_at: sql<Date>`now()` });
