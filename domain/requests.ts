/** What the API takes and gives: the zod schemas that validate requests and from which the OpenAPI is made. */
import { z } from 'zod';
import { CELL_NAME } from './ids.js';
import {
  ALLOCATION_KINDS,
  ALLOCATION_STATES,
  OPERATION_KINDS,
  OPERATION_STATUSES,
  STEP_STATUSES,
  STORES,
} from './operation.js';
import { TENANT_STATES } from './tenant-state.js';

export const BATCH_LIMIT = 1_000;
const PAGE_LIMIT = 200;

/** Slugs become host names and paths of the product, so these would shadow something of its own. */
export const RESERVED_SLUGS: ReadonlySet<string> = new Set(
  'admin api app assets auth billing blog cdn console dashboard default docs help internal localhost login logout mail metrics null root signup static status support system tenant tenantry test undefined www'.split(
    ' ',
  ),
);

/** Something that is not drawn as nothing: joiners and fillers alone are no name. */
const VISIBLE = /[^\s\p{Default_Ignorable_Code_Point}]/u;

/**
 * A display name: any script, NFC, at most 200 characters. Control, format (bidi overrides, zero-width) and
 * unassigned characters and lone surrogates are refused; the two joiners that scripts and emoji need are not.
 */
const displayName = z
  .string()
  .transform((text) => text.normalize('NFC').trim())
  .pipe(
    z
      .string()
      .min(1, 'is empty')
      .refine((text) => text === '' || VISIBLE.test(text), 'shows nothing')
      .refine((text) => Array.from(text).length <= 200, 'is longer than 200 characters')
      .refine(
        (text) => !/[\p{Cc}\p{Cf}\p{Cn}\p{Cs}\p{Co}\u2028\u2029]/u.test(text.replace(/[\u200c\u200d]/g, '')),
        'has a control, format or unassigned character',
      ),
  )
  .meta({ description: 'Shown to people. Any script, 1 to 200 characters.', example: 'Acme Support' });

const slug = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])$/,
    'must be 3 to 63 of a-z, 0-9 and -, and neither begin nor end with -',
  )
  // As a host name's label it would be read as another name, in any script (RFC 5890, R-LDH labels).
  .refine((text) => text.slice(2, 4) !== '--', 'must not have -- in third and fourth place')
  // Wherever a tenant may be named by either, it would be read as the id of another.
  .regex(/^(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$)/, 'must not look like an id')
  .meta({ description: 'Unique, usable as a host name label.', example: 'acme' });

const uuid = z.uuid();
const time = z.iso.datetime();

export const createTenantBody = z
  .strictObject({
    slug,
    name: displayName,
    plan: z
      .string()
      .min(1)
      .max(31)
      .meta({ description: 'One of the plans of the manifest.', example: 'team' }),
    cell: z
      .string()
      .regex(CELL_NAME)
      .optional()
      .meta({ description: 'The cell to place it in; by default one with room.' }),
  })
  .meta({ id: 'CreateTenant' });
export type CreateTenantBody = z.output<typeof createTenantBody>;

export const createBatchBody = z
  .strictObject({ tenants: z.array(createTenantBody).min(1).max(BATCH_LIMIT) })
  .meta({ id: 'CreateTenants' });

export const listTenantsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(PAGE_LIMIT).default(50),
  cursor: z.string().max(200).optional().meta({ description: '`next` of the page before.' }),
  state: z.enum(TENANT_STATES).optional(),
  plan: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,30}$/, 'is not the name of a plan')
    .optional(),
  cell: z.string().regex(CELL_NAME, 'is not the name of a cell').optional(),
  slug: z
    .string()
    .regex(/^[a-z0-9-]{1,63}$/, 'is not a slug')
    .optional(),
});

export const idParams = z.strictObject({ id: uuid });

export const tenantView = z
  .object({
    id: uuid,
    slug: z.string(),
    name: z.string(),
    plan: z.string(),
    cell: z.string(),
    state: z.enum(TENANT_STATES),
    generation: z.int(),
    createdAt: time,
    updatedAt: time,
    links: z.object({ self: z.string(), allocations: z.string() }),
  })
  .meta({ id: 'Tenant' });

export const tenantPage = z
  .object({ items: z.array(tenantView), next: z.string().nullable() })
  .meta({ id: 'TenantPage' });

export const allocationView = z
  .object({
    store: z.enum(STORES),
    kind: z.enum(ALLOCATION_KINDS),
    name: z.string(),
    state: z.enum(ALLOCATION_STATES),
    specHash: z.string(),
    generation: z.int(),
    updatedAt: time,
  })
  .meta({ id: 'Allocation' });

export const allocationList = z.object({ items: z.array(allocationView) }).meta({ id: 'AllocationList' });

const recordedError = z.object({ code: z.string(), message: z.string() });

export const stepView = z
  .object({
    name: z.string(),
    status: z.enum(STEP_STATUSES),
    attempts: z.int(),
    startedAt: time,
    finishedAt: time.nullable(),
    lastError: recordedError.nullable(),
    evidence: z.unknown().meta({ description: 'What the step saw and proved.' }),
  })
  .meta({ id: 'Step' });

export const operationView = z
  .object({
    id: uuid,
    kind: z.enum(OPERATION_KINDS),
    tenantId: uuid.nullable(),
    status: z.enum(OPERATION_STATUSES),
    attempt: z.int().meta({ description: '1, and one more for each retry.' }),
    steps: z.array(stepView),
    error: recordedError.nullable(),
    residue: z.array(z.object({ store: z.string(), kind: z.string(), name: z.string(), reason: z.string() })),
    results: z
      .array(
        z.object({
          ordinal: z.int(),
          slug: z.string(),
          tenantId: uuid.nullable(),
          status: z.enum(['running', 'succeeded', 'failed', 'refused', 'cancelled']),
          error: recordedError.nullable(),
        }),
      )
      .optional()
      .meta({ description: 'Of a batch: one result for each tenant, in the order of the request.' }),
    startedAt: time,
    finishedAt: time.nullable(),
    links: z.object({ self: z.string(), tenant: z.string().optional() }),
  })
  .meta({ id: 'Operation' });

export const problemView = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string(),
    instance: z.string().optional(),
    errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
    operation: z.string().optional().meta({ description: 'The operation that stands in the way.' }),
  })
  .meta({ id: 'Problem' });
