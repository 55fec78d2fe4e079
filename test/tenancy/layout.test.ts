/** A tenant's MongoDB database, as the manifest has it: validators, indexes, rights and a document that fits. */
import fc from 'fast-check';
import { Double, Int32, Long, UUID } from 'mongodb';
import { defineManifest, type FieldType, mongoFootprint } from '../../domain/manifest.js';
import supportDesk from '../../manifest/support-desk.js';
import { collectionLayouts, probeDocument, tenantPrivileges } from '../../tenancy/mongo/layout.js';
import { manifestWith, validManifest } from '../domain/support/manifests.js';

interface Validator {
  readonly $jsonSchema: {
    readonly bsonType: string;
    readonly required?: readonly string[];
    readonly properties: Readonly<Record<string, { bsonType: string }>>;
  };
}
const schemaOf = (layout: { validator: object }) => (layout.validator as Validator).$jsonSchema;
const manifests = validManifest.map(defineManifest);

test('the sample has two collections, an index and a ttl of ninety days', () => {
  expect(collectionLayouts(supportDesk)).toEqual([
    {
      name: 'transcripts',
      validator: {
        $jsonSchema: {
          bsonType: 'object',
          required: ['conversationId', 'text', 'createdAt'],
          properties: {
            conversationId: { bsonType: 'string' },
            text: { bsonType: 'string' },
            createdAt: { bsonType: 'date' },
          },
        },
      },
      indexes: [{ name: 'conversationId', key: { conversationId: 1 } }],
    },
    {
      name: 'events',
      validator: {
        $jsonSchema: {
          bsonType: 'object',
          required: ['kind', 'at'],
          properties: {
            kind: { bsonType: 'string' },
            at: { bsonType: 'date' },
            payload: { bsonType: 'object' },
          },
        },
      },
      indexes: [{ name: 'ttl_at', key: { at: 1 }, expireAfterSeconds: 7_776_000 }],
    },
  ]);
});

test('every field is in its validator, and the required ones are required', () => {
  fc.assert(
    fc.property(manifests, (manifest) => {
      for (const layout of collectionLayouts(manifest)) {
        const fields = manifest.mongo.collections[layout.name]?.fields ?? {};
        const schema = schemaOf(layout);
        expect(Object.keys(schema.properties).toSorted()).toEqual(Object.keys(fields).toSorted());
        for (const [name, { required }] of Object.entries(fields))
          expect([name, schema.required?.includes(name) ?? false]).toEqual([name, required]);
      }
    }),
  );
});

test('a collection without a required field has no list of them, for MongoDB takes no empty one', () => {
  const fields = { note: { type: 'string', required: false } };
  for (const spec of [{ fields }, { fields: {} }]) {
    const [layout] = collectionLayouts(defineManifest(manifestWith({ collections: { notes: spec } })));
    expect(layout?.validator['$jsonSchema']).not.toHaveProperty('required');
  }
});

test('the indexes have names of their own and as many keys as the manifest gives them, in its order', () => {
  fc.assert(
    fc.property(manifests, (manifest) => {
      for (const { name, indexes } of collectionLayouts(manifest)) {
        const spec = manifest.mongo.collections[name];
        expect(new Set(indexes.map((index) => index.name)).size).toBe(indexes.length);
        const declared = [
          ...(spec?.indexes.map(({ fields }) => fields) ?? []),
          ...(spec?.ttl ? [[spec.ttl.field]] : []),
        ];
        expect(indexes.map((index) => Object.keys(index.key))).toEqual(declared);
        expect(indexes.filter((index) => index.unique).length).toBe(
          spec?.indexes.filter(({ unique }) => unique).length,
        );
      }
    }),
  );
});

test('a tenant takes as much room as the footprint says', () => {
  fc.assert(
    fc.property(manifests, (manifest) => {
      const layouts = collectionLayouts(manifest);
      expect(layouts.reduce((sum, { indexes }) => sum + 2 + indexes.length, 0)).toBe(
        mongoFootprint(manifest),
      );
    }),
  );
});

test('a tenant may read and write the declared collections of its own database, and nothing more', () => {
  fc.assert(
    fc.property(manifests, fc.string({ minLength: 1 }), (manifest, database) => {
      const privileges = tenantPrivileges(database, collectionLayouts(manifest));
      expect(privileges.map(({ resource }) => resource)).toEqual(
        // An empty name would mean all collections, or all databases.
        Object.keys(manifest.mongo.collections).map((collection) => ({ db: database, collection })),
      );
      for (const { actions, ...rest } of privileges) {
        expect((actions as string[]).toSorted()).toEqual(['find', 'insert', 'remove', 'update']);
        expect(Object.keys(rest)).toEqual(['resource']);
      }
    }),
  );
});

/** By the BSON that a value becomes, and not by how the layout makes it. */
const IS: Record<FieldType, (value: unknown) => boolean> = {
  string: (value) => typeof value === 'string',
  int: (value) => value instanceof Int32,
  long: (value) => value instanceof Long,
  double: (value) => value instanceof Double,
  bool: (value) => typeof value === 'boolean',
  date: (value) => value instanceof Date && !Number.isNaN(value.getTime()),
  object: (value) => value !== null && typeof value === 'object' && !Array.isArray(value),
  array: (value) => Array.isArray(value),
  uuid: (value) => value instanceof UUID,
};

test('the document of a probe has its id, every required field in its type, and no other', () => {
  fc.assert(
    fc.property(manifests, fc.string(), (manifest, id) => {
      for (const [name, { fields }] of Object.entries(manifest.mongo.collections)) {
        const { _id, ...document } = probeDocument(manifest, name, id);
        expect(_id).toBe(id);
        const required = Object.entries(fields).filter(([, field]) => field.required);
        expect(Object.keys(document).toSorted()).toEqual(required.map(([field]) => field).toSorted());
        for (const [field, { type }] of required)
          expect([field, IS[type](document[field])]).toEqual([field, true]);
      }
    }),
  );
});

test('the document of a probe does not vanish by a ttl while it is probed', () => {
  const document = probeDocument(supportDesk, 'events', 'x');
  expect((document['at'] as Date).getTime()).toBeGreaterThan(Date.now() + 365 * 24 * 3_600_000);
});
