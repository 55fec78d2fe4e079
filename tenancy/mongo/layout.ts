/** What a tenant's MongoDB database looks like, from the manifest: collections, validators, indexes, privileges. */
import { type Document, Double, type IndexDescription, Int32, Long, UUID } from 'mongodb';
import type { FieldType, Manifest } from '../../domain/manifest.js';

export interface CollectionLayout {
  readonly name: string;
  readonly validator: Document;
  /** Named, so that a second createIndexes finds the first. Without the one on _id. */
  readonly indexes: readonly (IndexDescription & { readonly name: string })[];
}

const BSON_TYPES: Record<FieldType, string> = {
  string: 'string',
  int: 'int',
  long: 'long',
  double: 'double',
  bool: 'bool',
  date: 'date',
  object: 'object',
  array: 'array',
  uuid: 'binData',
};

export function collectionLayouts(manifest: Manifest): CollectionLayout[] {
  return Object.entries(manifest.mongo.collections).map(([name, spec]) => {
    const fields = Object.entries(spec.fields);
    const required = fields.filter(([, field]) => field.required).map(([field]) => field);
    return {
      name,
      validator: {
        $jsonSchema: {
          bsonType: 'object',
          // MongoDB takes no empty list.
          ...(required.length > 0 ? { required } : {}),
          properties: Object.fromEntries(
            fields.map(([field, { type }]) => [field, { bsonType: BSON_TYPES[type] }]),
          ),
        },
      },
      indexes: [
        ...spec.indexes.map(({ fields: keys, unique }) => ({
          name: keys.join('_'),
          key: Object.fromEntries(keys.map((key) => [key, 1])),
          ...(unique ? { unique } : {}),
        })),
        ...(spec.ttl === undefined
          ? []
          : [
              {
                name: `ttl_${spec.ttl.field}`,
                key: { [spec.ttl.field]: 1 },
                expireAfterSeconds: spec.ttl.seconds,
              },
            ]),
      ],
    };
  });
}

/** Read and write of documents on the declared collections and nothing else: no DDL, no listing, no users. */
export function tenantPrivileges(database: string, layouts: readonly CollectionLayout[]): Document[] {
  return layouts.map(({ name }) => ({
    resource: { db: database, collection: name },
    actions: ['find', 'insert', 'update', 'remove'],
  }));
}

/** A document that the validator of a collection accepts. */
export function probeDocument(manifest: Manifest, collection: string, id: string): Document {
  const fields = Object.entries(manifest.mongo.collections[collection]?.fields ?? {});
  return {
    _id: id,
    ...Object.fromEntries(
      fields.filter(([, field]) => field.required).map(([field, { type }]) => [field, PROBE_VALUES[type]()]),
    ),
  };
}

const PROBE_VALUES: Record<FieldType, () => unknown> = {
  string: () => 'probe',
  int: () => new Int32(1),
  long: () => Long.fromNumber(1),
  double: () => new Double(1.5),
  bool: () => false,
  // Far from any TTL: the document must not vanish while it is being probed.
  date: () => new Date('2100-01-01T00:00:00Z'),
  object: () => ({}),
  array: () => [],
  uuid: () => new UUID(),
};
