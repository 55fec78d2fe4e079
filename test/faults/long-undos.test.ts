/** Undos that a slow store keeps at work, more of them than the catalogue has connections for statements. */
import { openCatalogue } from '../../catalogue/index.js';
import { askForBatch, newSlugs } from '../support/batch.js';
import { signal } from '../support/holds.js';
import { askAndAdmit } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
let catalogue: ReturnType<typeof openCatalogue>;
beforeAll(async () => {
  world = await createWorld();
  catalogue = openCatalogue({ url: world.url('control', 'catalogue'), name: 'test-long-undos', max: 1 });
});
afterAll(async () => {
  await catalogue.close();
  await world.close();
});

test('keep no other tenant waiting', async () => {
  const [doomed, other] = [await askAndAdmit(world), await askAndAdmit(world)];
  const store = signal();
  const begun = signal();
  const undoing = catalogue.steps.undo(doomed.fence, 'undo-mongo', ['mongo'], async () => {
    begun.give();
    await store.given;
    return { evidence: null, residue: [] };
  });
  await begun.given;
  expect(await catalogue.steps.begin(other.fence, 'postgres')).toMatchObject({ attempts: 1 });
  store.give();
  expect(await undoing).toMatchObject({ residue: [] });
});

test('of a batch find their own tenants', async () => {
  const operationId = await askForBatch(world, newSlugs(1));
  await world.activities.admitBatch({ operationId, attempt: 1 });
  const fence = { operationId, attempt: 1, ordinals: [0] };
  const error = { code: 'STORE_UNAVAILABLE', message: 'MongoDB cannot be reached.' } as const;
  await catalogue.batches.fail(fence, 'failed', error);
  let found = 0;
  await catalogue.batches.undo(fence, async () => {
    found = (await catalogue.batches.toUndo(fence)).length;
  });
  expect(found).toBe(1);
});
