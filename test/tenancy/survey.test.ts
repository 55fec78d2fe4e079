/** How the ledger and what a store has are compared. */
import fc from 'fast-check';
import { ALLOCATION_STATES, type Allocation, STORES } from '../../domain/operation.js';
import { disagreements } from '../../tenancy/survey.js';

const allocation = (state: Allocation['state'], name = 't_1'): Allocation => ({
  store: 'mongo',
  kind: 'database',
  name,
  state,
  specHash: 'x',
  generation: 1,
});
const random: fc.Arbitrary<Allocation[]> = fc.uniqueArray(
  fc.record({
    store: fc.constantFrom(...STORES),
    kind: fc.constantFrom('database' as const, 'user' as const),
    name: fc.constantFrom('a', 'b', 'c'),
    state: fc.constantFrom(...ALLOCATION_STATES),
    specHash: fc.constant('x'),
    generation: fc.constant(1),
  }),
  { selector: ({ store, kind, name }) => `${store} ${kind} ${name}` },
);

test.each([
  ['intended', false, []],
  ['intended', true, []],
  ['created', true, []],
  ['verified', true, []],
  ['released', false, []],
  ['created', false, ['the ledger says created, the store has no mongo database t_1']],
  ['verified', false, ['the ledger says verified, the store has no mongo database t_1']],
  ['released', true, ['the ledger says released, the store has mongo database t_1']],
] as const)('the ledger says %s, the store has it: %s', (state, present, said) => {
  expect(disagreements([allocation(state)], present ? [allocation(state)] : [])).toEqual(said);
});

test('what only the store has is said, and so is what has the name in another store or kind', () => {
  const found = { store: 'mongo', kind: 'database', name: 't_1' } as const;
  expect(disagreements([], [found])).toEqual(['the ledger does not know mongo database t_1']);
  expect(
    disagreements([allocation('created')], [found, { ...found, kind: 'user' }, { ...found, store: 'redis' }]),
  ).toEqual(['the ledger does not know mongo user t_1', 'the ledger does not know redis database t_1']);
});

test('a store that has exactly what is created and verified never disagrees', () => {
  fc.assert(
    fc.property(random, (ledger) => {
      expect(
        disagreements(
          ledger,
          ledger.filter(({ state }) => state === 'created' || state === 'verified'),
        ),
      ).toEqual([]);
    }),
  );
});

test('each thing out of place is said once, and the order in which the store tells makes no difference', () => {
  fc.assert(
    fc.property(random, random, (ledger, found) => {
      const said = disagreements(ledger, found);
      expect(new Set(said).size).toBe(said.length);
      expect(disagreements(ledger, found.toReversed()).toSorted()).toEqual(said.toSorted());
    }),
  );
});

test('taking one thing from a store that agrees makes one disagreement', () => {
  fc.assert(
    fc.property(
      random.filter((all) => all.length > 0),
      fc.nat(),
      (all, pick) => {
        const ledger = all.map((one) => ({ ...one, state: 'verified' as const }));
        const lost = ledger[pick % ledger.length];
        const said = disagreements(
          ledger,
          ledger.filter((one) => one !== lost),
        );
        expect(said).toEqual([
          `the ledger says verified, the store has no ${lost?.store} ${lost?.kind} ${lost?.name}`,
        ]);
      },
    ),
  );
});
