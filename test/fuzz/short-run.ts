/** A short run of the fuzzer on the shared servers. */
import { testStack } from '../support/stack.js';
import { fuzz, type FuzzOptions, type FuzzResult } from './fuzz.js';
import { type GroundOptions, layGround } from './ground.js';

/** Seeds are each test's own: tenants are made from them, and the servers are shared. */
export async function shortRun(
  seed: number,
  {
    ways = ['plain'],
    pgbouncer,
    ...options
  }: Partial<FuzzOptions & Pick<GroundOptions, 'ways' | 'pgbouncer'>> = {},
): Promise<FuzzResult> {
  const ground = await layGround({ stack: testStack(), ways, pgbouncer });
  try {
    return await fuzz({
      ground,
      seed,
      tenants: 60,
      // They take longest to make.
      mongoTenants: 0,
      operations: 15_000,
      actors: 20,
      ...options,
    });
  } finally {
    await ground.close();
  }
}
