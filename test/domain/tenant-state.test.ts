/** The moves of a tenant between its states, against the design's own words. */
import { LEGAL_MOVES, mayBecome, TENANT_STATES, type TenantState } from '../../domain/tenant-state.js';

/** As the design has them; `inactive` is given up like any state in which a tenant has data. */
const DESIGN = `
  pending -> provisioning
  provisioning -> active, failed
  failed -> provisioning, purging
  active -> suspended, inactive, deprovisioning
  suspended -> active, deprovisioning
  inactive -> active, deprovisioning
  deprovisioning -> active, suspended, inactive, purging
  purging -> deleted`;
const designed = new Set(
  DESIGN.trim()
    .split('\n')
    .flatMap((line) => {
      const [from = '', to = ''] = line.trim().split(' -> ');
      return to.split(', ').map((state) => `${from} -> ${state}`);
    }),
);
const pairs = TENANT_STATES.flatMap((from) =>
  TENANT_STATES.map((to): [TenantState, TenantState] => [from, to]),
);

/** All states that can follow, however late. */
function reachable(from: TenantState): Set<TenantState> {
  const seen = new Set<TenantState>();
  const queue: TenantState[] = [from];
  for (let next = queue.pop(); next !== undefined; next = queue.pop())
    for (const to of TENANT_STATES)
      if (mayBecome(next, to) && !seen.has(to)) {
        seen.add(to);
        queue.push(to);
      }
  return seen;
}

test.each(pairs)('%s -> %s is legal exactly when the design has it', (from, to) => {
  expect(mayBecome(from, to)).toBe(designed.has(`${from} -> ${to}`));
});

test('the table has each state once and each move once', () => {
  expect(Object.keys(LEGAL_MOVES).toSorted()).toEqual(TENANT_STATES.toSorted());
  for (const moves of Object.values(LEGAL_MOVES)) expect(new Set(moves).size).toBe(moves.length);
});

test('no state may become itself: a second one of the same kind is a conflict, not a move', () => {
  for (const state of TENANT_STATES) expect([state, mayBecome(state, state)]).toEqual([state, false]);
});

test('every state is reached from pending, and nothing goes back to it', () => {
  expect([...reachable('pending'), 'pending'].toSorted()).toEqual(TENANT_STATES.toSorted());
});

test('there is a way to deleted from everywhere else, and no way out of it', () => {
  for (const state of TENANT_STATES)
    expect([state, reachable(state).has('deleted')]).toEqual([state, state !== 'deleted']);
  expect(reachable('deleted').size).toBe(0);
});

test('once purging, a tenant can only become deleted', () => {
  expect([...reachable('purging')]).toEqual(['deleted']);
});

test('a tenant that has data is purged only after its grace', () => {
  expect(TENANT_STATES.filter((state) => mayBecome(state, 'purging'))).toEqual(['deprovisioning', 'failed']);
});

test('what cancels a deprovisioning leads back to exactly the states that it can begin in', () => {
  const before = TENANT_STATES.filter((state) => mayBecome(state, 'deprovisioning'));
  const after = TENANT_STATES.filter((state) => mayBecome('deprovisioning', state) && state !== 'purging');
  expect(after).toEqual(before);
});
