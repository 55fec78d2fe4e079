/** Workflows that say as whom their activities ran. */
import {
  ApplicationFailure,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  inWorkflowContext,
  makeContinueAsNewFunc,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import { CHECK_MESSAGE, type OwnActivities } from '../../../tenancy/temporal/header.js';
import type { ProbeActivities } from './probe-activities.js';

export * from '../../../examples/temporal/workflows.js';

const { whoAmI, waitAndSay } = proxyActivities<ProbeActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '50ms', backoffCoefficient: 1 },
});
const local = proxyLocalActivities<ProbeActivities>({ startToCloseTimeout: '10s' });

export async function sayWho(): Promise<string> {
  return whoAmI();
}

/** As an activity, a local one, a child, a grandchild, and all again as the next runs, the last under another type. */
export async function everyWay(runs: number, seen: readonly string[] = []): Promise<string[]> {
  const child = await startChild(withChild, { args: [] });
  const all = [...seen, await whoAmI(), await local.whoAmI(), ...(await child.result())];
  if (runs > 1) return continueAsNew<typeof everyWay>(runs - 1, all);
  return makeContinueAsNewFunc<typeof lastType>({ workflowType: 'lastType' })(all);
}

/** All that reaches beyond it, at once. */
export async function triesAll(listening: string): Promise<void> {
  await Promise.allSettled([
    whoAmI(),
    local.whoAmI(),
    startChild(sayWho, {}),
    getExternalWorkflowHandle(listening).signal(note, 'from nobody'),
    continueAsNew<typeof triesAll>(listening),
  ]);
}

export async function lastType(seen: readonly string[]): Promise<string[]> {
  return [...seen, await whoAmI()];
}

export async function withChild(): Promise<string[]> {
  const child = await startChild(sayWho, {});
  return [await child.result(), await whoAmI(), await local.whoAmI()];
}

export async function interleaved(steps: number): Promise<string[]> {
  const seen: string[] = [];
  for (let i = 0; i < steps; i++) {
    seen.push(...(await Promise.all([waitAndSay(i % 7), local.whoAmI(), whoAmI()])));
    await sleep(1 + (i % 3));
  }
  return seen;
}

export const note = defineSignal<[string]>('note');
export const ask = defineUpdate<string, [string]>('ask');

export async function listens(until: number): Promise<string[]> {
  const heard: string[] = [];
  setHandler(note, (text) => void heard.push(text));
  setHandler(ask, async (text) => `${text}:${await whoAmI()}`);
  if (!(await condition(() => heard.length >= until, '20s')))
    throw ApplicationFailure.nonRetryable('heard too little');
  return [...heard, await whoAmI()];
}

export const wordsTried = defineQuery<string[]>('wordsTried');

/** Takes an update with the right word, and its validator says what that is. */
export async function guarded(): Promise<string[]> {
  const taken: string[] = [];
  const tried: string[] = [];
  setHandler(note, (text) => void taken.push(text));
  setHandler(wordsTried, () => tried);
  setHandler(ask, async (word) => `${taken.push(word)}:${await whoAmI()}`, {
    validator(word) {
      tried.push(word);
      if (word === 'odd') throw new TypeError('an odd word');
      if (word !== 'open')
        throw ApplicationFailure.create({ message: 'it is open', type: 'WRONG_WORD', details: [word] });
    },
  });
  await condition(() => taken.includes('end'), '20s');
  return taken;
}

/** As the interceptor asks of an update that another worker had accepted when it died. */
export async function asksOfTakenOver(text: string): Promise<void> {
  const own = proxyLocalActivities<OwnActivities>({ startToCloseTimeout: '5s' });
  await own[CHECK_MESSAGE]({ text, isTakenOver: true });
}

const early: string[] = [];

/** Its handlers are there before its function begins, as those of a default or of a class would be. */
export async function listensEarly(): Promise<string[]> {
  await condition(() => early.includes('end'), '20s');
  return early;
}
if (inWorkflowContext() && workflowInfo().workflowType === 'listensEarly') {
  setHandler(note, (text) => void early.push(text));
  setHandler(ask, (text) => `${early.push(text)}`);
}

export async function tells(workflowId: string): Promise<string> {
  await getExternalWorkflowHandle(workflowId).signal(note, `from ${workflowInfo().workflowId}`);
  return whoAmI();
}

/** Fails once, goes on as new once, and says how long after the beginning of it all the last run began. */
export async function chain(round: number): Promise<{ since: number; ran: number }> {
  const { attempt, startTime, runStartTime } = workflowInfo();
  if (round === 1 && attempt === 1) {
    await sleep(300);
    throw ApplicationFailure.retryable('once more');
  }
  if (round === 0) {
    await sleep(300);
    return continueAsNew<typeof chain>(1);
  }
  return { since: runStartTime.getTime() - startTime.getTime(), ran: Date.now() - runStartTime.getTime() };
}
