/**
 * A support desk's queries with Drizzle. One object for all tenants: each statement and transaction is the tenant's who
 * is current when it begins, and the policies of the tables hold it to that tenant's rows.
 */
import { and, count, eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { tenantPool } from '../../tenancy/index.js'; // In a product: from 'tenantry'.
import { conversations, customers, messages } from './schema.js';

export const db = drizzle(tenantPool());

export async function addCustomer(email: string, name: string): Promise<string> {
  return idOf(await db.insert(customers).values({ email, name }).returning({ id: customers.id }));
}

/** The conversation and its first message, or neither. */
export function openConversation(customerId: string, subject: string, body: string): Promise<string> {
  return db.transaction(async (tx) => {
    const conversationId = idOf(
      await tx
        .insert(conversations)
        .values({ customerId, subject, open: true })
        .returning({ id: conversations.id }),
    );
    await tx.insert(messages).values({ conversationId, body });
    return conversationId;
  });
}

/** Adds what can be added: a message that is refused takes none of the others with it. */
export function importMessages(
  conversationId: string,
  bodies: readonly (readonly string[])[],
): Promise<{ refused: number }> {
  return db.transaction(async (tx) => {
    let refused = 0;
    for (const batch of bodies) {
      // A transaction in a transaction is a savepoint.
      const added = tx.transaction(async (nested) => {
        for (const body of batch) await nested.insert(messages).values({ conversationId, body });
      });
      await added.catch(() => {
        refused += 1;
      });
    }
    return { refused };
  });
}

/** No condition on the tenant: the policies are one. A join names it for its index, which begins with it. */
export function waiting() {
  return db
    .select({
      id: conversations.id,
      subject: conversations.subject,
      name: customers.name,
      messages: count(messages.id),
    })
    .from(conversations)
    .innerJoin(
      customers,
      and(eq(customers.tenantId, conversations.tenantId), eq(customers.id, conversations.customerId)),
    )
    .leftJoin(
      messages,
      and(eq(messages.tenantId, conversations.tenantId), eq(messages.conversationId, conversations.id)),
    )
    .where(eq(conversations.open, true))
    .groupBy(conversations.id, conversations.subject, customers.name)
    .orderBy(conversations.subject);
}

/** How many there were. */
export async function closeConversations(customerId: string): Promise<number> {
  const { rowCount } = await db
    .update(conversations)
    .set({ open: false })
    .where(and(eq(conversations.customerId, customerId), eq(conversations.open, true)));
  return rowCount ?? 0;
}

function idOf([row]: readonly { readonly id: string }[]): string {
  if (row === undefined) throw new Error('nothing was inserted');
  return row.id;
}
