/** The tables of manifest/support-desk.ts as Drizzle knows them. */
import { boolean, foreignKey, jsonb, pgSchema, primaryKey, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { currentTenant } from '../../tenancy/index.js'; // In a product: from 'tenantry'.

const app = pgSchema('app');

/** Of each table. The tenant is written into each row; a row of another's is refused by the policies. */
const owned = () => ({
  tenantId: uuid('tenant_id')
    .notNull()
    .$defaultFn(() => currentTenant().tenantId),
  id: uuid('id')
    .notNull()
    .$defaultFn(() => crypto.randomUUID()),
  createdAt: timestamp('created_at', { withTimezone: true })
    .notNull()
    .$defaultFn(() => new Date()),
});

export const customers = app.table(
  'customers',
  { ...owned(), email: text('email').notNull(), name: text('name').notNull() },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
);

export const conversations = app.table(
  'conversations',
  {
    ...owned(),
    customerId: uuid('customer_id').notNull(),
    subject: text('subject').notNull(),
    open: boolean('open').notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.tenantId, t.id] }),
    foreignKey({ columns: [t.tenantId, t.customerId], foreignColumns: [customers.tenantId, customers.id] }),
  ],
);

export const messages = app.table(
  'messages',
  {
    ...owned(),
    conversationId: uuid('conversation_id').notNull(),
    body: text('body').notNull(),
    attributes: jsonb('attributes').$type<Record<string, string>>(),
  },
  (t) => [
    primaryKey({ columns: [t.tenantId, t.id] }),
    foreignKey({
      columns: [t.tenantId, t.conversationId],
      foreignColumns: [conversations.tenantId, conversations.id],
    }),
  ],
);
