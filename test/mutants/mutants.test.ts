/** Mutants go by the text of the source: whoever changes that is told here, and not when they are next run. */
import { misfit } from './mutant.js';
import { MUTANTS } from './mutants.js';

it('each mutant can be applied to the sources as they are', () => {
  expect(MUTANTS.length).toBeGreaterThanOrEqual(25);
  expect(MUTANTS.flatMap((mutant) => misfit(mutant) ?? [])).toEqual([]);
});
