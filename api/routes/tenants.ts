/** Tenants: asking for one, listing them, looking at one and at what exists for it. */
import { TenantryError } from '../../domain/errors.js';
import { isUuid, tenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import {
  allocationList,
  createTenantBody,
  type CreateTenantBody,
  idParams,
  listTenantsQuery,
  operationView,
  RESERVED_SLUGS,
  tenantPage,
  tenantView,
} from '../../domain/requests.js';
import { z } from 'zod';
import type { ApiDeps } from '../deps.js';
import { BODY_PROBLEMS, idempotencyKey, json, prefer, responses } from '../documents.js';
import { begin, readKey } from '../begin.js';
import { route, type Route } from '../route.js';
import { provisionStart } from '../starts.js';
import { viewAllocation, viewTenant } from '../views.js';

export function tenantRoutes(deps: ApiDeps): Route[] {
  const { catalogue, manifest } = deps;

  const find = async (text: string) => {
    const id = text.toLowerCase();
    const tenant = isUuid(id) ? await catalogue.tenants.find(tenantId(id)) : undefined;
    if (tenant === undefined) throw new TenantryError('TENANT_NOT_FOUND');
    return tenant;
  };

  const create = route({
    method: 'post',
    path: '/v1/tenants',
    body: createTenantBody,
    operation: {
      operationId: 'createTenant',
      summary: 'Ask for a tenant',
      description:
        'Accepted means durable: the operation runs to its end whatever is restarted meanwhile. A 503 means that ' +
        'nothing was made and nothing will be.',
      requestParams: {
        header: z.object({ 'Idempotency-Key': idempotencyKey.optional(), Prefer: prefer.optional() }),
      },
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: createTenantBody,
            example: { slug: 'acme', name: 'Acme Support', plan: Object.keys(manifest.plans)[0] },
          },
        },
      },
      responses: responses(
        {
          '201': json('Made within the wait; `Location` is the tenant.', operationView, ADMITTED_HEADERS),
          '202': json('Admitted; `Location` is the operation.', operationView, ADMITTED_HEADERS),
        },
        [
          ...BODY_PROBLEMS,
          'SLUG_RESERVED',
          'UNKNOWN_PLAN',
          'UNKNOWN_CELL',
          'SLUG_TAKEN',
          'IDEMPOTENCY_KEY_REUSED',
          'CELL_FULL',
          'CELL_NOT_READY',
          'ISOLATION_NOT_ENFORCED',
          'ADMISSION_TIMEOUT',
          'ENGINE_UNAVAILABLE',
        ],
      ),
    },
    async handle(call) {
      const key = readKey(call);
      checkTenant(call.body, manifest, '');
      const { slug, cell, plan } = call.body;
      return begin(deps, call, {
        intake: { kind: 'provision', body: call.body, idempotencyKey: key, slug, cell },
        start: ({ operationId, tenantId, foreseen, admitBy }) => {
          if (tenantId === undefined) throw new TypeError('a provisioning without a tenant id');
          return provisionStart(tenantId, operationId, 1, admitBy, { cell: foreseen, plan });
        },
      });
    },
  });

  const list = route({
    method: 'get',
    path: '/v1/tenants',
    query: listTenantsQuery,
    operation: {
      operationId: 'listTenants',
      summary: 'List tenants in the order of their creation',
      requestParams: { query: listTenantsQuery },
      responses: responses({ '200': json('A page; `next` is the cursor of the one after it.', tenantPage) }),
    },
    async handle({ query: { limit, cursor, ...filter } }) {
      const page = await catalogue.tenants.list(filter, limit, cursor);
      return { status: 200, body: { items: page.items.map(viewTenant), next: page.next } };
    },
  });

  const show = route({
    method: 'get',
    path: '/v1/tenants/{id}',
    params: idParams,
    operation: {
      operationId: 'getTenant',
      summary: 'One tenant',
      requestParams: { path: idParams },
      responses: responses({ '200': json('The tenant.', tenantView) }, ['TENANT_NOT_FOUND']),
    },
    handle: async ({ path }) => ({ status: 200, body: viewTenant(await find(path.id)) }),
  });

  const allocations = route({
    method: 'get',
    path: '/v1/tenants/{id}/allocations',
    params: idParams,
    operation: {
      operationId: 'listAllocations',
      summary: 'What exists for a tenant in each store, as the ledger knows it',
      requestParams: { path: idParams },
      responses: responses({ '200': json('The ledger of the tenant.', allocationList) }, [
        'TENANT_NOT_FOUND',
      ]),
    },
    async handle({ path }) {
      const entries = await catalogue.tenants.allocations((await find(path.id)).id);
      return { status: 200, body: { items: entries.map(viewAllocation) } };
    },
  });

  return [create, list, show, allocations];
}

export const ADMITTED_HEADERS = ['Location', 'Content-Location', 'Preference-Applied'];

/**
 * What a schema does not know: names that the product keeps for itself, and the plans of this manifest.
 * @param where the path of the body in the request, such as `tenants[3]`
 */
export function checkTenant(body: CreateTenantBody, manifest: Manifest, where: string): void {
  const field = (name: string): string => (where === '' ? name : `${where}.${name}`);
  if (RESERVED_SLUGS.has(body.slug))
    throw new TenantryError('SLUG_RESERVED', { slug: body.slug }, { field: field('slug') });
  if (!Object.hasOwn(manifest.plans, body.plan)) {
    const known = Object.keys(manifest.plans).join(', ');
    throw new TenantryError('UNKNOWN_PLAN', { plan: body.plan, known }, { field: field('plan') });
  }
}
