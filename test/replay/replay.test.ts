/**
 * Histories of real runs, one for each shape, against the workflows as they are now. One that does not replay is a run
 * that this version would break in production.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils';
import { expectHarmless, textOf } from '../support/harmless.js';
import { replay } from '../support/replay.js';
import { testStack } from '../support/stack.js';
import '../support/world.js';
import { TRACES_OF_A_MACHINE, withPayloadsDecoded } from './anonymous.js';
import { NAME, SCENARIOS, SLUG } from './scenarios.js';

const HISTORIES = join(__dirname, 'histories');
const recorded = readdirSync(HISTORIES)
  .filter((file) => file.endsWith('.json'))
  .map(
    (file) => [file.replace(/\.json$/, ''), JSON.parse(readFileSync(join(HISTORIES, file), 'utf8'))] as const,
  );

describe('a recorded history', () => {
  it('is there for every scenario', () => {
    expect(recorded.map(([name]) => name)).toEqual(expect.arrayContaining(Object.keys(SCENARIOS)));
  });

  it('replays, each of them', async () => {
    const histories = recorded.map(([name, json]) => ({ workflowId: name, history: historyFromJSON(json) }));
    expect(await replay({ codePath: testStack().bundlePath }, histories)).toEqual({});
  });

  it.each(recorded)(
    '%s tells nothing about people or about the machine of the recording',
    (_name, history) => {
      for (const text of [textOf(history), textOf(withPayloadsDecoded(history))]) {
        expectHarmless(text, [SLUG, NAME]);
        for (const trace of TRACES_OF_A_MACHINE) expect(text).not.toMatch(trace);
      }
    },
  );

  it('that another workflow would make does not replay', async () => {
    const [, history] = recorded.find(([name]) => name === 'succeeded') ?? [];
    const other = JSON.parse(
      JSON.stringify(history).replaceAll('"provisionRedis"', '"provisionKafka"'),
    ) as unknown;
    const histories = [{ workflowId: 'other', history: historyFromJSON(other) }];
    const failures = await replay({ codePath: testStack().bundlePath }, histories);
    expect(failures['other']?.name).toBe('DeterminismViolationError');
  });
});
