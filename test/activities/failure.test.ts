/** What an activity's error is to Temporal: whether it is tried again and when, and nothing of what a driver has said. */
import { pino } from 'pino';
import { toApplicationFailure } from '../../activities/failure.js';
import { TenantryError } from '../../domain/errors.js';

const failureOf = (error: unknown) => toApplicationFailure(error, pino({ enabled: false }), 'an activity');

test.each([
  ['CATALOGUE_UNAVAILABLE', false, undefined],
  ['STALE_GENERATION', true, undefined],
  // A caller waits for it.
  ['UNDO_RUNNING', false, '250ms'],
] as const)('%s: for good %s, next in %s', (code, nonRetryable, nextRetryDelay) => {
  const failure = failureOf(new TenantryError(code, {}, { cause: new Error('secret') }));
  expect(failure).toMatchObject({ type: code, nonRetryable });
  expect(failure.nextRetryDelay ?? undefined).toBe(nextRetryDelay);
  expect(JSON.stringify(failure)).not.toContain('secret');
});

test('what is not of the table is INTERNAL, tried again, and says nothing', () => {
  const failure = failureOf(new Error('password=secret'));
  expect(failure).toMatchObject({ type: 'INTERNAL', message: new TenantryError('INTERNAL').message });
  expect(failure.message).not.toContain('secret');
});
