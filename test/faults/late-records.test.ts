/** What a worker says late of a cell: it stood still, and another one has looked since. */
import { createWorld, type World } from '../support/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

it('a trial that was made before the last one does not take its place', async () => {
  const { cells } = world.catalogue;
  const trial = { server: 'MongoDB 8', refused: [], notRefused: [] };
  const newest = { ...trial, triedAt: '2030-01-01T12:00:00.000Z', notRefused: ['reads'] };
  await cells.prepared(world.cell, newest);
  await cells.prepared(world.cell, { ...trial, triedAt: '2030-01-01T11:59:59.000Z', refused: ['reads'] });
  expect((await cells.find(world.cell))?.trial).toEqual(newest);
});
