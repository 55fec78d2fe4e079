/** Texts in Temporal's headers: how long they are believed is a number. */
import type { Signer } from '../../tenancy/context/snapshot.js';
import { createPasses } from '../../tenancy/temporal/passes.js';

test.each(['startWithinMs', 'messageTtlMs'])(
  'a %s that is no number above 0 is refused, for it would end never',
  (name) => {
    for (const value of ['1000', 0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => createPasses({} as Signer, { namespace: 'n', [name]: value })).toThrow(
        `${name} must be a number above 0`,
      );
    expect(() => createPasses({} as Signer, { namespace: 'n', [name]: 1 })).not.toThrow();
  },
);
