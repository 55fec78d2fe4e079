/** Many tenants as one operation, with one result for each. */
import { z } from 'zod';
import { TenantryError } from '../../domain/errors.js';
import { createBatchBody, operationView } from '../../domain/requests.js';
import { begin, readKey } from '../begin.js';
import type { ApiDeps } from '../deps.js';
import { BODY_PROBLEMS, idempotencyKey, json, prefer, responses } from '../documents.js';
import { route, type Route } from '../route.js';
import { batchStart } from '../starts.js';
import { ADMITTED_HEADERS, checkTenant } from './tenants.js';

export function batchRoutes(deps: ApiDeps): Route[] {
  const create = route({
    method: 'post',
    path: '/v1/tenants:batch',
    body: createBatchBody,
    operation: {
      operationId: 'createTenants',
      summary: 'Ask for up to 1,000 tenants at once',
      description:
        'A request with anything wrong in it is refused as a whole. A slug that is taken, or a cell that is full, is ' +
        'in the result of its tenant and does not hold up the others.',
      requestParams: {
        header: z.object({ 'Idempotency-Key': idempotencyKey.optional(), Prefer: prefer.optional() }),
      },
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: createBatchBody,
            example: {
              tenants: ['acme', 'globex'].map((slug) => ({
                slug,
                name: slug,
                plan: Object.keys(deps.manifest.plans)[0],
              })),
            },
          },
        },
      },
      responses: responses(
        {
          '200': json('All made within the wait.', operationView, ADMITTED_HEADERS),
          '202': json('Admitted; `Location` is the operation.', operationView, ADMITTED_HEADERS),
        },
        [
          ...BODY_PROBLEMS,
          'SLUG_RESERVED',
          'UNKNOWN_PLAN',
          'UNKNOWN_CELL',
          'IDEMPOTENCY_KEY_REUSED',
          'CELL_NOT_READY',
          'ISOLATION_NOT_ENFORCED',
          'CELL_FULL',
          'ADMISSION_TIMEOUT',
          'ENGINE_UNAVAILABLE',
        ],
      ),
    },
    async handle(call) {
      const key = readKey(call);
      for (const [index, tenant] of call.body.tenants.entries())
        checkTenant(tenant, deps.manifest, `tenants[${index}]`);
      try {
        return await begin(deps, call, {
          intake: { kind: 'provision-batch', body: call.body, idempotencyKey: key },
          start: ({ operationId, admitBy }) => batchStart(operationId, 1, admitBy),
        });
      } catch (error) {
        throw inBatch(error);
      }
    },
  });

  return [create];
}

/** A refusal of the whole for the sake of one: admission says which, and the caller wants to know its field. */
function inBatch(error: unknown): unknown {
  if (!(error instanceof TenantryError) || error.code !== 'UNKNOWN_CELL') return error;
  const field = `tenants[${error.params['ordinal']}].cell`;
  return new TenantryError(error.code, error.params, { cause: error, field });
}
