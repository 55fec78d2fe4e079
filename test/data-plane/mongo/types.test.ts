/** Collections typed by a manifest's literal: checked by the compiler, of which this file is part. */
import { Double } from 'mongodb';
import type { TenantId } from '../../../domain/ids.js';
import { contextOf, createTenants, type Tenants } from './support/tenants.js';

const manifest = {
  mongo: {
    collections: {
      transcripts: {
        fields: { conversationId: { type: 'string' }, text: { type: 'string' }, createdAt: { type: 'date' } },
      },
      events: {
        fields: {
          kind: { type: 'string' },
          at: { type: 'date' },
          payload: { type: 'object', required: false },
        },
      },
      readings: { fields: { level: { type: 'double' } } },
    },
  },
} as const;

let tenants: Tenants;
beforeAll(() => {
  tenants = createTenants();
});
afterAll(() => tenants.close());

it('knows names, fields and what is optional', async () => {
  const [id] = (await tenants.make(1)) as [TenantId];
  const mongo = tenants.open().forTenant<typeof manifest>(contextOf(id));
  const events = mongo.collection('events');
  await events.insertOne({ kind: 'a', at: new Date(0) });
  const found = await events.findOne({ kind: 'a' });
  const at: Date | undefined = found?.at;
  const payload: Record<string, unknown> | undefined = found?.payload;
  expect([at, payload]).toEqual([new Date(0), undefined]);
  // @ts-expect-error -- no such collection
  expect(() => mongo.collection('users')).toThrow('does not declare');
  // @ts-expect-error -- no such field
  expect(found?.nothing).toBeUndefined();
  // @ts-expect-error -- of another type
  await expect(events.insertOne({ kind: 5, at: new Date(0) })).rejects.toMatchObject({
    code: 'STORE_REFUSED',
  });
  // @ts-expect-error -- a required field is missing
  await expect(events.insertOne({ kind: 'a' })).rejects.toMatchObject({ code: 'STORE_REFUSED' });
  // Declared in the type only; a double may be written as one.
  expect(() => mongo.collection('readings').insertOne({ level: new Double(1) })).toThrow('does not declare');
});
