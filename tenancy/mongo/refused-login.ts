/** What comes of a login that the server has refused, and of whoever was waiting for it. */
import { MongoNetworkError, MongoServerError } from 'mongodb';

/**
 * AuthenticationFailed: nothing was executed, since a connection logs in before it is used. Who was waiting for that
 * connection, or for another of its pool, hears that the pool was cleared, and this as the reason.
 */
export const isLoginRefused = (error: unknown): boolean =>
  error instanceof MongoServerError ? error.code === 18 : isPoolCleared(error) && isLoginRefused(error.cause);

/** The connection that a statement was waiting for did not come to be. */
const isPoolCleared = (error: unknown): error is MongoNetworkError =>
  error instanceof MongoNetworkError && error.name === 'MongoPoolClearedError';

/** More than one lost connection in the course of one statement is possible, many are not. */
const ATTEMPTS = 4;

/**
 * Whether a statement is sent again after each of its failures: only if it was certainly not sent. A refused login is
 * tried again for as long as a rotation may take, since it may be followed by another one.
 */
export function createRetries(patienceMs: number): (error: unknown) => boolean {
  let [attempt, until] = [1, Number.POSITIVE_INFINITY];
  return (error) => {
    if (attempt++ === 1) until = performance.now() + patienceMs;
    return isLoginRefused(error) ? performance.now() < until : isPoolCleared(error) && attempt <= ATTEMPTS;
  };
}
