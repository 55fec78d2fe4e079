/** What may stand in a manifest, table by table; what tables say of each other is in `manifest-problems.ts`. */
import { z } from 'zod';

const identifier = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,47}$/, 'lower-case letters, digits and _, at most 48, beginning with a letter')
  .refine(
    (name) => !name.startsWith('pg_') && name !== 'tenant_id' && name !== 'tenantry',
    'is a reserved name',
  );

export const COLUMN_TYPES = [
  'uuid',
  'text',
  'integer',
  'bigint',
  'boolean',
  'numeric',
  'date',
  'timestamptz',
  'jsonb',
  'bytea',
] as const;
export type ColumnType = (typeof COLUMN_TYPES)[number];

export const FIELD_TYPES = [
  'string',
  'int',
  'long',
  'double',
  'bool',
  'date',
  'object',
  'array',
  'uuid',
] as const;
export type FieldType = (typeof FIELD_TYPES)[number];

/** The owner of the tables may make none in these. */
const schemaName = identifier.refine(
  (name) => name !== 'public' && name !== 'information_schema',
  'is a reserved name',
);

const columnNames = z.array(identifier).min(1);

const table = z.strictObject({
  columns: z.record(
    identifier,
    z.strictObject({
      type: z.enum(COLUMN_TYPES),
      nullable: z.boolean().default(false),
      /** Personal data of a data subject: what subject requests and anonymising act on. */
      personal: z.boolean().default(false),
    }),
  ),
  /** It is there already, the product's own from before, and is taken over as it is. */
  adopt: z.boolean().default(false),
  primaryKey: columnNames,
  unique: z.array(columnNames).default([]),
  indexes: z.array(columnNames).default([]),
  references: z
    .array(
      z.strictObject({
        columns: columnNames,
        table: identifier,
        onDelete: z.enum(['cascade', 'restrict']).default('cascade'),
      }),
    )
    .default([]),
});

/** MongoDB counts the seconds in 32 bits. */
const LONGEST_TTL = 2 ** 31 - 1;

const collection = z.strictObject({
  fields: z.record(
    z.string().regex(/^[A-Za-z][A-Za-z0-9]{0,63}$/),
    z.strictObject({
      type: z.enum(FIELD_TYPES),
      required: z.boolean().default(true),
      personal: z.boolean().default(false),
    }),
  ),
  indexes: z
    .array(z.strictObject({ fields: z.array(z.string()).min(1), unique: z.boolean().default(false) }))
    .default([]),
  /** Documents vanish this long after the date in `field`. */
  ttl: z.strictObject({ field: z.string(), seconds: z.int().positive().max(LONGEST_TTL) }).optional(),
});

export const manifestShape = z.strictObject({
  product: z.string().regex(/^[a-z][a-z0-9-]{1,40}$/),
  version: z.int().positive(),
  plans: z.record(
    z.string().regex(/^[a-z][a-z0-9-]{0,30}$/),
    z.strictObject({ limits: z.record(z.string(), z.int().nonnegative()) }),
  ),
  postgres: z.strictObject({
    schema: schemaName,
    /** Tenants are entered by a token that the database verifies, so that injected SQL can choose none. */
    hardened: z.boolean().default(false),
    tables: z.record(identifier, table),
  }),
  mongo: z.strictObject({
    collections: z.record(
      z
        .string()
        .regex(/^[a-z][a-z0-9_]{0,47}$/)
        .refine((name) => name !== 'system', 'is a reserved name'),
      collection,
    ),
  }),
  redis: z.strictObject({
    namespaces: z.record(
      z
        .string()
        .regex(/^[a-z][a-z0-9-]{0,30}$/)
        // Where the probe of a tenant writes.
        .refine((name) => name !== 'tenantry', 'is a reserved name'),
      z.strictObject({
        /** Every key written lives at most so long. */
        ttlSeconds: z.int().positive().optional(),
        /** Quotas of one tenant; docs/data-plane.md says how exact they are. */
        maxKeys: z.int().positive().optional(),
        maxBytes: z.int().positive().optional(),
      }),
    ),
  }),
});

export type ManifestInput = z.input<typeof manifestShape>;
export type Manifest = z.output<typeof manifestShape>;
export type TableSpec = Manifest['postgres']['tables'][string];
export type CollectionSpec = Manifest['mongo']['collections'][string];
