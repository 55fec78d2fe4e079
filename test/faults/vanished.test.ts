/** A machine that vanishes without a word, in the midst of a transaction: the server goes on holding what it had locked. */
import { admissionRepository } from '../../catalogue/admission.js';
import { openCatalogue } from '../../catalogue/index.js';
import { expectActive, expectNeverWas } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { openLink } from '../support/link.js';
import { watchedPool } from '../support/points.js';
import { askAndAdmit, make, makeActive, proveAndActivate } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it('a machine that vanishes in an admission keeps nobody else out of the cell for long', async () => {
  const link = await openLink(world.url('control', 'catalogue'));
  const catalogue = openCatalogue({ url: link.url, name: 'vanishing', idleInTransaction: 500 });
  const asked = await world.ask();
  const holds = createHolds();
  const hold = holds.at('after cell-place');
  const pool = watchedPool(catalogue.pool, holds.reach);
  const vanishing = admissionRepository(pool).admitProvision(
    asked.operationId,
    1,
    world.dependencies.blueprint,
  );
  vanishing.catch(() => undefined);
  await hold.reached;
  link.hold();

  const { asked: other, fence } = await askAndAdmit(world);
  await make(world, fence);
  await proveAndActivate(world, fence);
  await expectActive(world, other);

  // It comes back, and finds that its transaction is over.
  link.cut();
  hold.release();
  await expect(vanishing).rejects.toThrow(/Connection terminated|not queryable/);
  await expectNeverWas(world, asked);
  await makeActive(world, asked);
  await expectActive(world, asked);
  await catalogue.close();
  await link.close();
});
