import fc from 'fast-check';
import { randomUUID } from 'node:crypto';
import { createWorld, type World } from '../support/world.js';
import { type Api, startApi } from './support/api.js';

const COUNT = 97;
let world: World;
let api: Api;
let slugs: string[];

/** Rows as admission makes them, many with one and the same time, some a microsecond apart. */
beforeAll(async () => {
  world = await createWorld({ prepare: false });
  api = await startApi(world);
  slugs = Array.from({ length: COUNT }, (_, i) => `tenant-${String(i).padStart(3, '0')}`);
  for (const [i, slug] of slugs.entries()) {
    const at = `2026-01-01T00:00:00.${String(Math.floor(i / 20)).padStart(6, '0')}Z`;
    await world.catalogue.pool.query(
      `INSERT INTO tenant (id, slug, name, plan, cell, state, generation, created_at)
       VALUES ($1, $2, 'Acme', $3, $4, $5, 1, $6)`,
      [randomUUID(), slug, i % 3 === 0 ? 'free' : 'team', world.cell, i % 4 === 0 ? 'failed' : 'active', at],
    );
  }
});
afterAll(async () => {
  await api?.close();
  await world?.close();
});

async function walk(query: string): Promise<string[][]> {
  const pages: string[][] = [];
  for (let next: string | null = ''; next !== null; ) {
    const cursor: string = next === '' ? '' : `&cursor=${next}`;
    const { status, json } = await api.send(`/v1/tenants?${query}${cursor}`);
    expect(status).toBe(200);
    pages.push((json['items'] as { slug: string }[]).map((tenant) => tenant.slug));
    next = json['next'] as string | null;
  }
  return pages;
}

test('walking the pages meets every tenant once, however large a page is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 5, max: 200 }), async (limit) => {
      const pages = await walk(`limit=${limit}`);
      expect(pages.flat().sort()).toEqual(slugs);
      expect(pages.slice(0, -1).every((page) => page.length === limit)).toBe(true);
    }),
    { numRuns: 10, examples: [[20], [COUNT], [7]] },
  );
});

test('a tenant that is made during the walk is met at its end and moves no other', async () => {
  const first = await api.send('/v1/tenants?limit=50');
  await world.catalogue.pool.query(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, generation) VALUES ($1, 'late', 'x', 'team', $2, 'active', 1)`,
    [randomUUID(), world.cell],
  );
  try {
    const rest = await api.send(`/v1/tenants?limit=200&cursor=${String(first.json['next'])}`);
    const met = [first, rest].flatMap((page) =>
      (page.json['items'] as { slug: string }[]).map((item) => item.slug),
    );
    expect(met.sort()).toEqual(['late', ...slugs]);
  } finally {
    await world.catalogue.pool.query("DELETE FROM tenant WHERE slug = 'late'");
  }
});

test('filters leave only what they name, alone and together', async () => {
  const count = async (query: string) => (await walk(`limit=30&${query}`)).flat().length;
  expect(await count('plan=free')).toBe(slugs.filter((_, i) => i % 3 === 0).length);
  expect(await count('state=failed')).toBe(slugs.filter((_, i) => i % 4 === 0).length);
  expect(await count('state=failed&plan=free')).toBe(slugs.filter((_, i) => i % 12 === 0).length);
  expect(await count(`cell=${world.cell}`)).toBe(COUNT);
  expect(await count('cell=elsewhere')).toBe(0);
  expect(await walk('slug=tenant-007')).toEqual([['tenant-007']]);
});

test('the canaries of a cell are not customers and are not listed', async () => {
  await world.catalogue.pool.query(
    `INSERT INTO tenant (id, slug, name, plan, cell, state, generation, system) VALUES ($1, 'canary', 'x', 'x', $2, 'active', 1, true)`,
    [randomUUID(), world.cell],
  );
  expect((await walk('limit=200')).flat()).not.toContain('canary');
});

test('there are 50 on a page unless the caller says', async () => {
  expect((await walk(''))[0]).toHaveLength(50);
});
