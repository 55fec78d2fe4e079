/** Errors of the operating system, as Node gives them: ECONNREFUSED, EPIPE, ENOTFOUND, EAI_AGAIN. */
import { types } from 'node:util';

/**
 * Known by their code, as another realm (node:vm) has classes of its own. Codes in several words are others': Node's for
 * mistakes (ERR_...), or those of our table. An AggregateError counts if one in it does: a host with several addresses fails
 * with each.
 */
export function isSystemError(error: unknown): boolean {
  if (!types.isNativeError(error)) return false;
  if ('errors' in error && Array.isArray(error.errors) && error.errors.some(isSystemError)) return true;
  return 'code' in error && typeof error.code === 'string' && /^E(AI_)?[A-Z0-9]+$/.test(error.code);
}
