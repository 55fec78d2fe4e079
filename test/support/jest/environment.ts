/**
 * Jest's environment without a sandbox: test files see the globals of their process, as the packages do that they share
 * (`runtime.ts`). What a file changes on them, it puts back itself.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { EnvironmentContext, JestEnvironmentConfig } from '@jest/environment';
import { TestEnvironment } from 'jest-environment-node';
import { ModuleMocker } from 'jest-mock';

export default class OneRealm extends TestEnvironment {
  /** Jest puts its own in their place for each file. */
  readonly #before = { console: globalThis.console, exit: process.exit };

  constructor(config: JestEnvironmentConfig, context: EnvironmentContext) {
    super(config, context);
    this.global = globalThis as unknown as typeof this.global;
    this.moduleMocker = new ModuleMocker(globalThis);
  }

  override async teardown(): Promise<void> {
    globalThis.console = this.#before.console;
    process.exit = this.#before.exit;
    forgetStorages();
    await super.teardown();
  }
}

/**
 * Those in use. Until it is disabled, each costs every promise of the process something, and each file makes its own: after
 * thirty files that was a tenth of the processor time.
 */
const storages = new Set<AsyncLocalStorage<unknown>>();

for (const name of ['run', 'enterWith'] as const) {
  const original = AsyncLocalStorage.prototype[name] as (...args: unknown[]) => unknown;
  Object.defineProperty(AsyncLocalStorage.prototype, name, {
    value(this: AsyncLocalStorage<unknown>, ...args: unknown[]): unknown {
      storages.add(this);
      return original.apply(this, args);
    },
  });
}

/** One that belongs to a package is enabled again by its next use. */
function forgetStorages(): void {
  for (const storage of storages) storage.disable();
  storages.clear();
}
