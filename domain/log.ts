/** The one logger: JSON lines, in which an error says what happened and never with which values. */
import { types } from 'node:util';
import { type DestinationStream, type Level, type Logger, pino } from 'pino';

export interface LogOptions {
  readonly level: Level | 'silent';
  readonly name?: string;
  readonly destination?: DestinationStream;
}

export function createLogger({ level, name, destination }: LogOptions): Logger {
  const options = {
    level,
    ...(name ? { name } : {}),
    serializers: {
      err: (error: unknown) => describeError(error),
      cause: (error: unknown) => describeError(error),
    },
  };
  return destination ? pino(options, destination) : pino(options);
}

/** Causes behind one error that are logged; more are a circle. */
const MOST_CAUSES = 10;

/**
 * Type, code, message and stack, of the causes too. Drivers hang more on their errors, such as the command that failed
 * with its arguments (ioredis: AUTH and its password) or the row that was in the way (pg): that stays out.
 */
export function describeError(error: unknown, causes = MOST_CAUSES): unknown {
  if (!types.isNativeError(error)) return error === undefined ? undefined : typeof error;
  const code = 'code' in error && /^(string|number)$/.test(typeof error.code) ? error.code : undefined;
  return {
    type: error.name,
    code,
    message: error.message,
    stack: error.stack,
    cause: error.cause === undefined || causes === 0 ? undefined : describeError(error.cause, causes - 1),
  };
}
