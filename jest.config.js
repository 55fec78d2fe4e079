/** Real servers, started once for all files by the global set-up; each test has its own databases and task queue. */
module.exports = {
  testEnvironment: '<rootDir>/dist/test/support/jest/environment.js',
  runtime: '<rootDir>/dist/test/support/jest/runtime.js',
  testSequencer: '<rootDir>/dist/test/support/jest/sequencer.js',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, sourceMaps: 'inline' },
    ],
  },
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  globalSetup: '<rootDir>/dist/test/support/global-setup.js',
  globalTeardown: '<rootDir>/dist/test/support/global-teardown.js',
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.tenantry/'],
  // Two more than the cores it must do with: many tests wait for a server.
  maxWorkers: 4,
  testTimeout: 120_000,
};
