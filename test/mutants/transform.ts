/**
 * Jest's transformer for a run with a mutant: the project's own, before which the text of one file is changed. On disk
 * everything stays as it is.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import swcJest from '@swc/jest';
import { applied, chosenMutant, VARIABLES } from './mutant.js';

type Swc = ReturnType<typeof swcJest.createTransformer>;

function createTransformer(options: Parameters<typeof swcJest.createTransformer>[0]): Swc {
  const swc = swcJest.createTransformer(options);
  const { process: transform, getCacheKey } = swc;
  if (transform === undefined || getCacheKey === undefined)
    throw new Error('@swc/jest has changed its shape');
  const mutant = chosenMutant();
  const target = mutant && path.resolve(mutant.file);
  return {
    ...swc,
    process(source, filename, transformOptions) {
      if (mutant === undefined || filename !== target) return transform(source, filename, transformOptions);
      return transform(applied(mutant, source) + LOADED, filename, transformOptions);
    },
    getCacheKey(source, filename, transformOptions) {
      const key = getCacheKey(source, filename, transformOptions);
      if (filename !== target) return key;
      return createHash('sha256').update(key).update(JSON.stringify(mutant)).update(LOADED).digest('hex');
    },
  };
}

/** Jest asks the default export. */
export default { createTransformer };

/** Says that the changed module was run, and not another copy of it: a cached one would say nothing of its own. */
const LOADED = `
;require('node:fs').appendFileSync(process.env['${VARIABLES.notes}'] ?? '', '{"kind":"loaded"}\\n');
`;
