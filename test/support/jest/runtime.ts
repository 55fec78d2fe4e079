/**
 * Jest's module loader, with two differences: packages are loaded by Node, once for each worker rather than for each test
 * file, and the project's own modules, which are still each file's own, are compiled once. Loading the packages anew was about
 * a fifth of a file's processor time.
 */
import { createRequire, isBuiltin } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { compileFunction, constants } from 'node:vm';
import Runtime from 'jest-runtime';

/**
 * How much bytecode a function runs before V8 thinks of optimising it: fifteen times the default. The optimising compiler runs
 * beside the tests and took more than a tenth of their processor time, for functions that are over before it has paid off.
 */
setFlagsFromString('--interrupt-budget=1000000');

/** By which Jest compiles a module, and the names that the module's code finds itself given. */
interface Executor {
  compile(source: string, filename: string): unknown;
  readonly injectedModuleParameters: string[];
}

export default class SharingRuntime extends Runtime {
  constructor(...args: ConstructorParameters<typeof Runtime>) {
    super(...args);
    const { executor } = this as unknown as { executor: Executor };
    const { injectedModuleParameters } = executor;
    if (typeof executor.compile !== 'function' || !Array.isArray(injectedModuleParameters))
      throw new Error('jest-runtime has changed its shape');
    // Not in a context of its own: an Error or an Array is to be the same one here and in the packages.
    executor.compile = (source, filename) => {
      const known = compiled.get(filename);
      if (known?.source === source) return known.body;
      const body = compileFunction(source, injectedModuleParameters, {
        filename,
        importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
      });
      compiled.set(filename, { source, body });
      return body;
    };
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as Jest has it
  override requireModuleOrMock<T = unknown>(from: string, name: string): T {
    return isPackage(name) ? (createRequire(from)(name) as T) : super.requireModuleOrMock<T>(from, name);
  }
}

/** Run anew by each file; what V8 knows of it by then, machine code too, need not be found out again. */
const compiled = new Map<string, { readonly source: string; readonly body: unknown }>();

const isPackage = (name: string): boolean =>
  /^[^./]/.test(name) && !isBuiltin(name) && name !== '@jest/globals';
