/**
 * Jest's module loader, with one difference: packages are loaded by Node, once for each worker rather than for each test
 * file. The project's own modules are still each file's own. Loading the packages anew was about a fifth of a file's processor time.
 */
import { createRequire, isBuiltin } from 'node:module';
import { compileFunction, constants } from 'node:vm';
import Runtime from 'jest-runtime';

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
    executor.compile = (source, filename) =>
      compileFunction(source, injectedModuleParameters, {
        filename,
        importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
      });
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as Jest has it
  override requireModuleOrMock<T = unknown>(from: string, name: string): T {
    return isPackage(name) ? (createRequire(from)(name) as T) : super.requireModuleOrMock<T>(from, name);
  }
}

const isPackage = (name: string): boolean =>
  /^[^./]/.test(name) && !isBuiltin(name) && name !== '@jest/globals';
