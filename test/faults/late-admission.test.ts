/**
 * An admission, or its withdrawal, that is carried out late: its machine stood still, and what it was for has been
 * decided by others meanwhile.
 */
import { randomUUID } from 'node:crypto';
import { admissionRepository } from '../../catalogue/admission.js';
import { expectActive } from '../support/expect.js';
import { createHolds } from '../support/holds.js';
import { watchedPool } from '../support/points.js';
import { type Asked, admit, close, make, proveAndActivate, undo } from '../support/steps.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

describe('an admission of the first attempt that comes late', () => {
  it('is not remembered as the refusal of a request that was admitted, so that it can be retried', async () => {
    const asked = await askWithKey();
    const { holds, pool } = watched();
    const hold = holds.at('after admission-candidate');
    const late = admissionRepository(pool).admitProvision(asked.operationId, 1, blueprint());
    await hold.reached;
    const fence = await admit(world, asked);
    await undo(world, fence);
    await close(world, fence);
    hold.release();
    expect(await late).toMatchObject({ refused: { code: 'SLUG_TAKEN' } });
    const retried = await admit(world, asked, 2);
    await make(world, retried);
    await proveAndActivate(world, retried);
    await expectActive(world, asked);
  });
});

const blueprint = () => world.dependencies.blueprint;

function watched() {
  const holds = createHolds();
  return { holds, pool: watchedPool(world.catalogue.pool, holds.reach) };
}

async function askWithKey(): Promise<Asked> {
  const slug = `t-${randomUUID().slice(0, 13)}`;
  const { operationId, tenantId } = await world.catalogue.requests.intake({
    kind: 'provision',
    body: { name: 'Acme', plan: 'team', slug },
    idempotencyKey: slug,
  });
  if (tenantId === undefined) throw new Error('a provisioning without a tenant');
  return { operationId, tenantId, slug };
}
