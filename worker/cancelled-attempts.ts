/**
 * A local activity that is told in the midst of an attempt that its run is cancelled, and then fails, ends as cancelled.
 * Temporal's core (SDK 1.24) would try it again: by then it has forgotten that it was told, so that the run would never hear of
 * it, and would go on for as long as the activity fails. An activity that is not local the server itself tries no more.
 */
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';

export const cancelledAttempts: ActivityInterceptorsFactory = ({ info, cancellationSignal }) => ({
  inbound: {
    async execute(input, next) {
      try {
        return await next(input);
      } catch (error) {
        // What is for good is said, cancelled or not.
        const forGood = error instanceof ApplicationFailure && error.nonRetryable === true;
        if (!info.isLocal || !cancellationSignal.aborted || forGood) throw error;
        throw new CancelledFailure('cancelled during an attempt, which failed', [], error as Error);
      }
    },
  },
});
