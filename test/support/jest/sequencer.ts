/**
 * In which order test files begin. Jest goes by how long each took; where it does not know, as in a fresh clone, by its size.
 * Those that wait for servers and processes are not large, and would be left for the end, with a processor idle beside them.
 */
import Sequencer from '@jest/test-sequencer';

type Tests = Parameters<Sequencer['sort']>[0];

const WAITING = /[\\/]test[\\/](faults|fuzz|local|replay|worker)[\\/]/;

export default class WaitingFirst extends Sequencer {
  override async sort(tests: Tests): Promise<Tests> {
    const sorted = await super.sort(tests);
    if (sorted.every(({ duration }) => duration !== undefined)) return sorted;
    const waits = sorted.map(({ path }) => WAITING.test(path));
    return [...sorted.filter((_, i) => waits[i]), ...sorted.filter((_, i) => !waits[i])];
  }
}
