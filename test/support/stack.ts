/** The servers that the global set-up started, as every test file sees them. */
import type { RolePasswords } from '../../catalogue/bootstrap.js';
import type { Tried } from '../../tenancy/mongo/enforcement.js';

export interface TestStack {
  readonly postgresUrl: string;
  readonly mongoUrl: string;
  readonly redisUrl: string;
  readonly temporalAddress: string;
  readonly passwords: RolePasswords;
  /** Migrated once; each test's catalogue is a copy of it. */
  readonly controlTemplate: string;
  /** The cell's mode that the MongoDB server at hand has earned. */
  readonly mongoEnforcement: 'server' | 'guard';
  /** By which it has earned it. */
  readonly mongoTrial: Tried;
  readonly bundlePath: string;
}

const VARIABLE = 'TENANTRY_TEST_STACK';

export function publishStack(stack: TestStack): void {
  process.env[VARIABLE] = JSON.stringify(stack);
}

export function testStack(): TestStack {
  const text = process.env[VARIABLE];
  if (text === undefined) throw new Error('the global set-up did not run');
  return JSON.parse(text) as TestStack;
}
