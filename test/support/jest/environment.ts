/**
 * Jest's environment without a sandbox: test files see the globals of their process, as the packages do that they share
 * (`runtime.ts`). What a file changes on them, it puts back itself.
 */
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
    await super.teardown();
  }
}
