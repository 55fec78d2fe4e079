/**
 * Makes each scenario happen and replays what it left. With TENANTRY_RECORD_HISTORIES=1 it also keeps it: see README.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { historyFromJSON, historyToJSON } from '@temporalio/common/lib/proto-utils';
import { expectHarmless, textOf } from '../support/harmless.js';
import { type Replayed, replay } from '../support/replay.js';
import { anonymous, TRACES_OF_A_MACHINE, withPayloadsDecoded } from './anonymous.js';
import { createStage, NAME, SCENARIOS, SLUG, type Stage } from './scenarios.js';

const HISTORIES = join(__dirname, 'histories');
const KEEP = process.env['TENANTRY_RECORD_HISTORIES'] === '1';

describe('a history made now', () => {
  let stage: Stage;
  const made: Replayed[] = [];
  beforeAll(async () => {
    stage = await createStage();
  });
  afterAll(() => stage.close());

  it.each(Object.entries(SCENARIOS))(
    '%s: tells nothing about people or about the machine',
    async (name, scenario) => {
      const handle = await scenario(stage);
      await handle.result().catch(() => undefined);
      const json = anonymous(JSON.parse(historyToJSON(await handle.fetchHistory())));
      made.push({ workflowId: name, history: historyFromJSON(json) });
      for (const text of [textOf(json), textOf(withPayloadsDecoded(json))]) {
        expectHarmless(text, [SLUG, NAME]);
        for (const trace of TRACES_OF_A_MACHINE) expect(text).not.toMatch(trace);
      }
      if (!KEEP) return;
      mkdirSync(HISTORIES, { recursive: true });
      writeFileSync(join(HISTORIES, `${name}.json`), `${JSON.stringify(json, undefined, 1)}\n`);
    },
  );

  it('replays, each of those above', async () => {
    expect(made.length).toBeGreaterThan(0);
    expect(await replay({ codePath: stage.world.stack.bundlePath }, made)).toEqual({});
  });
});
