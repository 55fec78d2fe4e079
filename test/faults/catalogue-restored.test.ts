/** A catalogue that comes back from an older backup, while Temporal and the stores have gone on: what the runbook says of it. */
import { surveyTenant } from '../../tenancy/survey.js';
import { expectActive } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { startProvision } from '../support/provision.js';
import { admit, askAndAdmit, make, undoAndClose } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
const holds = createHolds();
beforeAll(async () => {
  world = await createWorld();
  await world.startWorker(holds.stepIn);
});
afterAll(() => world.close());

it('a run of a tenant that it does not know fails, and removes nothing', async () => {
  const asked = await world.ask();
  const made = ['postgres', 'mongo', 'redis'].map((store) => holds.at(`before finish ${store}`));
  const { handle } = await startProvision(world, asked);
  for (const hold of made) await hold.reached;
  const tables = ['operation', 'allocation', 'credential', 'tenant'];
  for (const table of tables)
    await world.catalogue.pool.query(
      `DELETE FROM ${table} WHERE ${table === 'tenant' ? 'id' : 'tenant_id'} = $1`,
      [asked.tenantId],
    );
  for (const hold of made) hold.release();
  await expect(handle.result()).rejects.toMatchObject({ cause: { type: 'STALE_GENERATION' } });
  const found = await surveyTenant(await world.dependencies.cells.get(world.cell), asked.tenantId);
  expect(new Set(found.map(({ store }) => store))).toEqual(new Set(['postgres', 'mongo', 'redis']));
});

it('a tenant whose gate is of a later generation than it knows is made by the retry that reaches that one', async () => {
  const { asked, fence } = await askAndAdmit(world);
  await undoAndClose(world, fence);
  for (const attempt of [2, 3]) {
    const later = await admit(world, asked, attempt);
    await make(world, later);
    if (attempt === 2) {
      await undoAndClose(world, later);
    }
  }
  await world.catalogue.pool.query(
    `WITH op AS (UPDATE operation SET status = 'failed', attempt = 1, generation = 1, finished_at = now() WHERE id = $1)
     UPDATE tenant SET state = 'failed', generation = 1 WHERE id = $2`,
    [asked.operationId, asked.tenantId],
  );
  const early = await startProvision(world, { ...asked, attempt: 2 });
  await expect(early.handle.result()).rejects.toMatchObject({ cause: { type: 'STALE_GENERATION' } });
  const next = await startProvision(world, { ...asked, attempt: 3 });
  expect(await next.handle.result()).toEqual({ status: 'succeeded' });
  await expectActive(world, asked);
});
