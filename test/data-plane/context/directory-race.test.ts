/** Answers of the catalogue that come late, or not at all. */
import type pg from 'pg';
import { createPool } from '../../../catalogue/pool.js';
import { createLogger } from '../../../domain/log.js';
import { createDirectory, type Directory } from '../../../tenancy/context/directory.js';
import { until } from '../../support/until.js';
import { createWorld, type World } from '../../support/world.js';
import { change, insertTenant } from './support.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

interface Held {
  /** The server has answered. */
  readonly answered: Promise<void>;
  release(): void;
}

/** The next answer of the server goes on to the caller when it is told to. */
function holdNextAnswer(pool: pg.Pool): Held {
  const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<unknown>;
  const [answered, released] = [signal(), signal()];
  pool.query = (async (...args: unknown[]) => {
    pool.query = query as unknown as typeof pool.query;
    const answer = await query(...args);
    answered.give();
    await released.given;
    return answer;
  }) as unknown as typeof pool.query;
  return { answered: answered.given, release: released.give };
}

function signal(): { readonly given: Promise<void>; give(): void } {
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => (give = resolve));
  return { given, give: () => give() };
}

async function withDirectory(
  maxStalenessMs: number,
  work: (directory: Directory, pool: pg.Pool) => Promise<void>,
): Promise<void> {
  const url = world.url('control', 'lookup');
  const pool = createPool({ url, name: 'lookup', max: 2 });
  const directory = createDirectory({ pool, url, log: createLogger({ level: 'silent' }), maxStalenessMs });
  try {
    await directory.listening;
    await work(directory, pool);
  } finally {
    await directory.close();
    await pool.end();
  }
}

test('one that was read before a change and comes after it is given to who asked, and not kept', () =>
  withDirectory(60_000, async (directory, pool) => {
    const { tenantId } = await insertTenant(world);
    const heard = signal();
    directory.onChange((id) => {
      if (id === tenantId) heard.give();
    });
    const held = holdNextAnswer(pool);
    const reading = directory.find(`id:${tenantId}`);
    await held.answered;
    await change(world, tenantId, { state: 'inactive' });
    await heard.given;
    held.release();
    expect(await reading).toMatchObject({ state: 'active' });
    expect(directory.peek(`id:${tenantId}`)).toBeUndefined();
    expect(await directory.find(`id:${tenantId}`)).toMatchObject({ state: 'inactive' });
  }));

test('while none comes, what is known is known until the bound and no longer', () =>
  // Longer than a busy machine takes for an answer, which would come too late by itself.
  withDirectory(2_000, async (directory, pool) => {
    const { tenantId } = await insertTenant(world);
    await directory.find(`id:${tenantId}`);
    const held = holdNextAnswer(pool);
    await until('it is not known any more', () => directory.peek(`id:${tenantId}`) === undefined, 20_000);
    held.release();
    expect(await directory.find(`id:${tenantId}`)).toMatchObject({ tenantId });
  }));
