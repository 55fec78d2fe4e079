/**
 * Provisions many tenants as one operation: admitted in one transaction, then chunk after chunk through the same steps
 * as a single tenant. A tenant that cannot be made is undone and reported; the others go on.
 */
import {
  CancellationScope,
  defineUpdate,
  isCancellation,
  log,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import {
  ADMIT,
  type AdmitArgs,
  type BatchAdmission,
  type BatchFence,
  type ChunkResult,
  DEFAULT_PATIENCE,
  type OperationOutcome,
  type Patience,
  type ProvisionBatchInput,
  type Refusal,
} from '../domain/contracts.js';
import { admittedUnlessCancelled } from './admitted.js';
import { catalogueEffects, chunkEffects } from './effects.js';
import { endedBy, failureOf, refuseLaterAttempt, recordedError, refusalOf } from './failure.js';
import { allOrNone, handlersFinished } from './settle.js';

export const admitBatch = defineUpdate<BatchAdmission, [AdmitArgs]>(ADMIT);

const CHUNK_SIZE = 100;
/** While one chunk waits for MongoDB, the other uses the catalogue. */
const CHUNKS_AT_ONCE = 2;
/** How many tenants of the whole batch are probed, at least. */
const SAMPLE = 20;

type Answer = { readonly admitted: BatchAdmission } | { readonly refused: Refusal };

export async function provisionBatch(input: ProvisionBatchInput): Promise<OperationOutcome> {
  const patience = input.patience ?? DEFAULT_PATIENCE;
  const { operationId, attempt, chunkSize = CHUNK_SIZE } = input;
  setCurrentDetails('Waiting for the catalogue to admit the batch.');
  const answering = admission(input, patience);
  setHandler(
    admitBatch,
    async () => {
      // A cancelled run still has an answer, which its caller waits for: a plain promise is in no cancellation scope.
      const given = await answering;
      if ('refused' in given) throw failureOf(given.refused);
      return given.admitted;
    },
    { validator: refuseLaterAttempt(input) },
  );
  const answer = await answering;
  if ('refused' in answer) {
    setCurrentDetails(`Refused: ${answer.refused.code}. Nothing was made.`);
    await handlersFinished();
    return { status: answer.refused === WITHDRAWN ? 'withdrawn' : 'refused' };
  }

  const { ordinals } = answer.admitted;
  const chunks = chunksOf(ordinals, chunkSize);
  let done = 0;
  let cancelled: unknown;
  await withLimit(chunks, CHUNKS_AT_ONCE, async (chunk) => {
    const fence: BatchFence = { operationId, attempt, ordinals: chunk };
    try {
      await provisionChunk(fence, Math.ceil((SAMPLE * chunk.length) / ordinals.length), patience);
    } catch (error) {
      if (isCancellation(error)) cancelled ??= error;
    }
    done += chunk.length;
    setCurrentDetails(`${done} of ${ordinals.length} tenants went through.`);
  });

  const closed = await CancellationScope.nonCancellable(() =>
    catalogueEffects(patience).closeBatch({ operationId, attempt }),
  );
  // A retry, and a run in the place of a lost one, have had only some of the operation's tenants to make.
  const { status, failed, total = ordinals.length } = closed;
  setCurrentDetails(`${status}. ${answer.admitted.refused} were refused; the results are in the operation.`);
  await handlersFinished();
  if (cancelled !== undefined) throw cancelled;
  if (status !== 'succeeded') throw failureOf({ code: 'BATCH_INCOMPLETE', params: { failed, total } });
  return { status: 'succeeded' };
}

const WITHDRAWN: Refusal = { code: 'ADMISSION_TIMEOUT', params: {} };

async function admission(
  { operationId, attempt, admitBy }: ProvisionBatchInput,
  patience: Patience,
): Promise<Answer> {
  try {
    return await admittedUnlessCancelled(
      catalogueEffects(patience).admitBatch({ operationId, attempt, admitBy }),
    );
  } catch (error) {
    log.warn('the batch was not admitted; it is taken back', { code: refusalOf(error).code });
    setCurrentDetails('Not admitted in time: taking the admission back.');
    await CancellationScope.nonCancellable(() =>
      catalogueEffects(patience).withdrawBatch({ operationId, attempt }),
    );
    return { refused: WITHDRAWN };
  }
}

async function provisionChunk(fence: BatchFence, sample: number, patience: Patience): Promise<void> {
  const label = `tenants ${(fence.ordinals[0] ?? 0) + 1} to ${(fence.ordinals.at(-1) ?? 0) + 1}`;
  const effects = chunkEffects(patience, label);
  let failure: unknown;
  let failed = false;
  // Runs recorded before batchActivate counted have no result of it here.
  const count = async (step: Promise<ChunkResult | undefined>): Promise<void> => {
    failed = ((await step)?.failed ?? 0) > 0 || failed;
  };
  try {
    await allOrNone([
      () => count(effects.batchPostgres(fence)),
      () => count(effects.batchMongo(fence)),
      () => count(effects.batchRedis(fence)),
    ]);
    await count(effects.batchVerify({ ...fence, sample }));
    await count(CancellationScope.nonCancellable(() => catalogueEffects(patience).batchActivate(fence)));
  } catch (error) {
    failure = endedBy(error);
    failed = true;
  }
  if (failed) await CancellationScope.nonCancellable(() => undoChunk(fence, failure, patience));
  if (failure !== undefined) throw failure;
}

async function undoChunk(fence: BatchFence, failure: unknown, patience: Patience): Promise<void> {
  const quick = catalogueEffects(patience);
  if (failure !== undefined) {
    const status = isCancellation(failure) ? 'cancelled' : 'failed';
    await quick.batchFail({ ...fence, status, error: recordedError(failure) });
  }
  try {
    await chunkEffects({ ...patience, step: patience.undo }, 'undo what failed').batchUndo(fence);
  } catch (error) {
    log.error('an undo failed and leaves residue', { code: refusalOf(error).code });
    await quick.batchAbandon(fence);
  }
}

const chunksOf = (ordinals: readonly number[], size: number): number[][] =>
  Array.from({ length: Math.ceil(ordinals.length / size) }, (_, i) =>
    ordinals.slice(i * size, (i + 1) * size),
  );

/** Works on at most `limit` items at a time, which it takes in order. */
async function withLimit<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, lane));
}
