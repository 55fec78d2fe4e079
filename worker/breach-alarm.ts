/** Counts and shouts when any activity finds that one tenant could reach another. */
import { ApplicationFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import type { Logger } from 'pino';
import { Counter } from 'prom-client';
import type { ErrorCode } from '../domain/errors.js';

const BREACH: ErrorCode = 'ISOLATION_BREACH';

export function breachAlarm(log: Logger): {
  readonly counter: Counter;
  readonly interceptor: ActivityInterceptorsFactory;
} {
  const counter = new Counter({
    name: 'tenantry_isolation_breaches_total',
    help: 'Probes in which one tenant reached another; anything but 0 wants a human now',
    labelNames: ['store'],
    registers: [],
  });
  // There from the beginning, so that an alert sees it rise from 0.
  for (const store of ['PostgreSQL', 'MongoDB', 'Redis']) counter.inc({ store }, 0);
  return {
    counter,
    interceptor: () => ({
      inbound: {
        async execute(input, next) {
          try {
            return await next(input);
          } catch (error) {
            if (error instanceof ApplicationFailure && error.type === BREACH) {
              const [params] = (error.details ?? []) as { store?: string; probe?: string }[];
              counter.inc({ store: params?.store ?? 'unknown' });
              log.error({ code: BREACH, ...params }, error.message);
            }
            throw error;
          }
        },
      },
    }),
  };
}
