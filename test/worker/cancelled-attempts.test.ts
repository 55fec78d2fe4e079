/** What an attempt that fails is to Temporal when its run was cancelled meanwhile; the run itself: faults/long-undos.test.ts. */
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { Context } from '@temporalio/activity';
import { cancelledAttempts } from '../../worker/cancelled-attempts.js';

const retryable = ApplicationFailure.create({ type: 'UNDO_RUNNING', nonRetryable: false });
const forGood = ApplicationFailure.create({ type: 'SLUG_TAKEN', nonRetryable: true });

test.each([
  ['local, cancelled: ends as cancelled', true, true, retryable, CancelledFailure],
  ['local, cancelled, with what nobody expected: likewise', true, true, new Error('x'), CancelledFailure],
  ['local, not cancelled: is tried again', true, false, retryable, ApplicationFailure],
  ['local, cancelled, but refused for good: is refused', true, true, forGood, ApplicationFailure],
  ['not local, cancelled: is the server’s matter', false, true, retryable, ApplicationFailure],
])('%s', async (_name, isLocal, cancelled, error, kind) => {
  const cancellationSignal = cancelled ? AbortSignal.abort() : new AbortController().signal;
  const { inbound } = cancelledAttempts({ info: { isLocal }, cancellationSignal } as Context);
  const attempt = inbound?.execute?.({ args: [], headers: {} }, () => Promise.reject(error));
  await expect(attempt).rejects.toBeInstanceOf(kind);
  if (kind !== CancelledFailure) await expect(attempt).rejects.toBe(error);
});
