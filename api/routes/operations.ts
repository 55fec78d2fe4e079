/** Operations: how far one is, and trying one again that did not succeed. */
import { z } from 'zod';
import { TenantryError } from '../../domain/errors.js';
import type { AdmitBy } from '../../domain/contracts.js';
import { isUuid, operationId } from '../../domain/ids.js';
import { RETRYABLE_STATUSES } from '../../domain/operation.js';
import { idParams, operationView } from '../../domain/requests.js';
import { carryOut } from '../begin.js';
import type { ApiDeps } from '../deps.js';
import { json, prefer, responses } from '../documents.js';
import { route, type Route } from '../route.js';
import { readOperation } from '../views.js';
import { runAgain } from '../run.js';
import { batchStart, provisionStart, type Start } from '../starts.js';
import { ADMITTED_HEADERS } from './tenants.js';

export function operationRoutes(deps: ApiDeps): Route[] {
  const { catalogue } = deps;

  const known = (text: string) => {
    const id = text.toLowerCase();
    if (!isUuid(id)) throw new TenantryError('OPERATION_NOT_FOUND');
    return operationId(id);
  };

  const show = route({
    method: 'get',
    path: '/v1/operations/{id}',
    params: idParams,
    operation: {
      operationId: 'getOperation',
      summary: 'One operation, with its steps: times, attempts and last error',
      requestParams: { path: idParams },
      responses: responses({ '200': json('The operation.', operationView) }, ['OPERATION_NOT_FOUND']),
    },
    handle: async ({ path }) => ({ status: 200, body: await readOperation(catalogue, known(path.id)) }),
  });

  const retry = route({
    method: 'post',
    path: '/v1/operations/{id}:retry',
    params: idParams,
    operation: {
      operationId: 'retryOperation',
      summary: 'Try again an operation that failed or was cancelled, or whose run was lost',
      description:
        'It keeps its id and its tenants; `attempt` is one more, and a batch takes up only what is missing. Asked ' +
        'twice at once, it is retried once. One that is `running` and whose run was terminated, or lost by Temporal, goes on ' +
        'where it was, as the same attempt.',
      requestParams: { path: idParams, header: z.object({ Prefer: prefer.optional() }) },
      responses: responses(
        {
          '200': json('A batch that succeeded within the wait.', operationView, ADMITTED_HEADERS),
          '201': json(
            'It succeeded within the wait; `Location` is the tenant.',
            operationView,
            ADMITTED_HEADERS,
          ),
          '202': json('Admitted; `Location` is the operation.', operationView, ADMITTED_HEADERS),
        },
        [
          'OPERATION_NOT_FOUND',
          'OPERATION_NOT_RETRYABLE',
          'OPERATION_RUNNING',
          'ILLEGAL_STATE',
          'STALE_GENERATION',
          'ADMISSION_TIMEOUT',
          'ENGINE_UNAVAILABLE',
        ],
      ),
    },
    async handle(call) {
      const id = known(call.path.id);
      const operation = await catalogue.operations.find(id);
      if (operation === undefined) throw new TenantryError('OPERATION_NOT_FOUND');
      const { kind, status, tenantId, attempt } = operation;
      const startOf = (nth: number, admitBy?: AdmitBy): Start =>
        tenantId === null ? batchStart(id, nth, admitBy) : provisionStart(tenantId, id, nth, admitBy);
      // A scheduled one comes again by itself.
      if (kind === 'isolation-probe')
        throw new TenantryError('OPERATION_NOT_RETRYABLE', { status: 'an isolation probe' });
      if (status === 'running') {
        const present = startOf(attempt);
        const stillRuns = async (): Promise<boolean> => {
          const now = await catalogue.operations.find(id);
          return now?.status === 'running' && now.attempt === attempt;
        };
        if (await runAgain(deps, present, stillRuns)) return carryOut(deps, call, present, 'admitted');
      }
      if (!RETRYABLE_STATUSES.includes(status))
        throw new TenantryError('OPERATION_NOT_RETRYABLE', { status });
      const admitBy = await catalogue.requests.admitBy(deps.config.TENANTRY_ADMISSION_TIMEOUT_MS);
      return carryOut(deps, call, startOf(attempt + 1, admitBy));
    },
  });

  // The longer path first: an id may hold a colon as far as the router knows.
  return [retry, show];
}
