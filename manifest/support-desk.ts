/** The sample product: a support desk. Replace it with your own and point TENANTRY_MANIFEST at it. */
import { defineManifest } from '../domain/manifest.js';

export default defineManifest({
  product: 'support-desk',
  version: 1,
  plans: {
    free: { limits: { customers: 100 } },
    team: { limits: { customers: 10_000 } },
    enterprise: { limits: { customers: 1_000_000 } },
  },
  postgres: {
    schema: 'app',
    tables: {
      customers: {
        columns: {
          id: { type: 'uuid' },
          email: { type: 'text', personal: true },
          name: { type: 'text', personal: true },
          created_at: { type: 'timestamptz' },
        },
        primaryKey: ['id'],
        unique: [['email']],
      },
      conversations: {
        columns: {
          id: { type: 'uuid' },
          customer_id: { type: 'uuid' },
          subject: { type: 'text', personal: true },
          open: { type: 'boolean' },
          created_at: { type: 'timestamptz' },
        },
        primaryKey: ['id'],
        indexes: [['customer_id'], ['open', 'created_at']],
        references: [{ columns: ['customer_id'], table: 'customers' }],
      },
      messages: {
        columns: {
          id: { type: 'uuid' },
          conversation_id: { type: 'uuid' },
          body: { type: 'text', personal: true },
          attributes: { type: 'jsonb', nullable: true },
          created_at: { type: 'timestamptz' },
        },
        primaryKey: ['id'],
        indexes: [['conversation_id', 'created_at']],
        references: [{ columns: ['conversation_id'], table: 'conversations' }],
      },
    },
  },
  mongo: {
    collections: {
      transcripts: {
        fields: {
          conversationId: { type: 'string' },
          text: { type: 'string', personal: true },
          createdAt: { type: 'date' },
        },
        indexes: [{ fields: ['conversationId'] }],
      },
      events: {
        fields: {
          kind: { type: 'string' },
          at: { type: 'date' },
          payload: { type: 'object', required: false },
        },
        ttl: { field: 'at', seconds: 90 * 24 * 3600 },
      },
    },
  },
  redis: {
    namespaces: {
      session: { ttlSeconds: 24 * 3600 },
      cache: { ttlSeconds: 300 },
      rate: { ttlSeconds: 3600 },
    },
  },
});
