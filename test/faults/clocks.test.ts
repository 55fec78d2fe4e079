/** A worker whose clock is wrong, or is put back. */
import { asyncLocalStorage } from '@temporalio/activity';
import { tryEnforcement } from '../../tenancy/mongo/enforcement.js';
import { compose } from '../../worker/compose.js';
import { createWorld, type World } from '../support/world.js';

const HOUR_MS = 3_600_000;

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterEach(() => jest.restoreAllMocks());
afterAll(() => world.close());

it.each([
  ['ahead', '2100-01-01T12:00:00.000Z'],
  ['behind', '2000-01-01T12:00:00.000Z'],
])('a trial by a worker whose clock is %s is followed by the next one', async (_, triedAt) => {
  // A trial tells no time by itself; whatever one says all the same does not count.
  const wrong = { triedAt, server: 'MongoDB 8', refused: [], notRefused: ['reads'] };
  const right = { ...world.stack.mongoTrial, triedAt: new Date().toISOString() };
  for (const trial of [wrong, right]) {
    const composition = compose({
      ...world.dependencies,
      rootKey: Buffer.from(world.env['TENANTRY_ROOT_KEY'] ?? '', 'base64'),
      resolveSecret: (reference) => world.env[reference.replace(/^env:/, '')] ?? '',
      poolSize: 4,
      tryEnforcement: () => Promise.resolve(trial),
    });
    await composition.dependencies.cells.get(world.cell);
    const { triedAt: _triedAt, ...found } = trial;
    expect((await world.catalogue.cells.find(world.cell))?.trial).toMatchObject(found);
    await composition.close();
  }
});

it('a trial that another worker is at is not taken for abandoned by one whose clock is ahead', async () => {
  const { mongo, mongoUrl } = await world.dependencies.cells.get(world.cell);
  const underWay = mongo.db(`tenantry_trial_${Date.now().toString(36)}_${world.cell}_a`);
  await underWay.createCollection('own');
  const now = Date.now;
  jest.spyOn(Date, 'now').mockImplementation(() => now() + HOUR_MS);
  await tryEnforcement(mongo, mongoUrl);
  expect(await underWay.listCollections().toArray()).toHaveLength(1);
  await underWay.dropDatabase();
});

it('an admission that ended before it was asked for, by the clock, may have taken long', async () => {
  const { operationId } = await world.ask();
  const asked = { info: { scheduledTimestampMs: Date.now() + HOUR_MS } } as never;
  const answer = await asyncLocalStorage.run(asked, () =>
    world.activities.admitProvision({ operationId, attempt: 1 }),
  );
  expect(answer).toMatchObject({ late: true });
});
