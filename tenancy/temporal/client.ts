/** Client interceptors: whatever is started, scheduled, signalled or updated from within a tenant says so, signed. */
import type { Headers } from '@temporalio/common';
import type { ScheduleClientInterceptor, WorkflowClientInterceptor } from '@temporalio/client';
import { findCurrentTenant, type TenantContext } from '../context/tenant-context.js';
import { CONTEXT_HEADER, MESSAGE_HEADER, withText } from './header.js';
import type { Passes } from './passes.js';

/** Outside of a tenant nothing is added: workers refuse that, unless the workflow is one without a tenant. */
export function clientInterceptors(passes: Passes): {
  workflow: WorkflowClientInterceptor[];
  schedule: ScheduleClientInterceptor[];
} {
  const sign = (headers: Headers, name: string, text: (tenant: TenantContext) => string): Headers => {
    const tenant = findCurrentTenant();
    return tenant === undefined ? headers : withText(headers, name, text(tenant));
  };
  const started = (headers: Headers, id: string, type: string): Headers =>
    sign(headers, CONTEXT_HEADER, (tenant) => passes.forWorkflow(tenant, id, type));
  const sent = (headers: Headers, id: string): Headers =>
    sign(headers, MESSAGE_HEADER, (tenant) => passes.forMessage(tenant, id));
  return {
    workflow: [
      {
        startWithDetails: (input, next) =>
          next({ ...input, headers: started(input.headers, input.options.workflowId, input.workflowType) }),
        signalWithStart: (input, next) => {
          const { workflowId } = input.options;
          return next({
            ...input,
            headers: sent(started(input.headers, workflowId, input.workflowType), workflowId),
          });
        },
        startUpdateWithStart: (input, next) => {
          const { workflowId } = input.workflowStartOptions;
          return next({
            ...input,
            workflowStartHeaders: started(input.workflowStartHeaders, workflowId, input.workflowType),
            updateHeaders: sent(input.updateHeaders, workflowId),
          });
        },
        signal: (input, next) =>
          next({ ...input, headers: sent(input.headers, input.workflowExecution.workflowId ?? '') }),
        startUpdate: (input, next) =>
          next({ ...input, headers: sent(input.headers, input.workflowExecution.workflowId ?? '') }),
      },
    ],
    schedule: [
      {
        create: (input, next) => {
          const { workflowId, workflowType } = input.options.action;
          return next({
            ...input,
            headers: sign(input.headers, CONTEXT_HEADER, (tenant) =>
              passes.forSchedule(tenant, workflowId, workflowType),
            ),
          });
        },
      },
    ],
  };
}
