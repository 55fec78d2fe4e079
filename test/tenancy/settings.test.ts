/** Bounds and times that a product sets, often from its environment: what is no such number is refused where it is set. */
import { Pool } from 'pg';
import { createLogger } from '../../domain/log.js';
import { createDirectory, type Directory } from '../../tenancy/context/directory.js';
import { createScopedPostgres } from '../../tenancy/postgres/scoped.js';
import { type Lanes, openLanes } from '../../tenancy/redis/lanes.js';

const NOWHERE = '127.0.0.1:1';
const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});
const kept = <T extends { close(): unknown }>(one: T): T => {
  opened.push(one);
  return one;
};

const postgres = (options: object): unknown =>
  kept(createScopedPostgres({ url: `postgresql://${NOWHERE}/none`, ...options }));
const redis = (options: object): Lanes =>
  kept(
    openLanes({
      url: `redis://${NOWHERE}`,
      credentials: { get: () => Promise.reject(new Error('none')) },
      ...options,
    }),
  );
const directory = (options: object): Directory => {
  const url = `postgresql://${NOWHERE}/none`;
  const log = createLogger({ level: 'silent' });
  return kept(createDirectory({ pool: new Pool({ connectionString: url }), url, log, ...options }));
};

const WRONG = [Number.NaN, -1, Number.POSITIVE_INFINITY, '5', null];
const NO_COUNT = [...WRONG, 0.5, 2 ** 31];

test.each([
  ...['connections', 'interactive', 'acquireTimeoutMs', 'preparedPerConnection', 'maxInFlight'].map(
    (name) => [postgres, name, [...NO_COUNT, 0]] as const,
  ),
  ...['maxQueued', 'statementTimeoutMs', 'transactionIdleMs', 'snapshotMs'].map(
    (name) => [postgres, name, NO_COUNT] as const,
  ),
  [postgres, 'maxResultBytes', [...WRONG, 0]],
  ...[
    'sharedConnections',
    'promoteAt',
    'connectTimeout',
    'commandTimeout',
    'maxPending',
    'maxPendingPerTenant',
  ].map((name) => [redis, name, [...NO_COUNT, 0]] as const),
  [redis, 'ownConnections', NO_COUNT],
  ...['maxStalenessMs', 'negativeMs', 'maxTenants', 'maxUnknown'].map(
    (name) => [directory, name, [...NO_COUNT, 0]] as const,
  ),
] as const)('%p takes no %s that is none', (make, name, wrong) => {
  for (const value of wrong)
    expect(() => make({ [name]: value })).toThrow(expect.objectContaining({ name: 'RangeError' }));
  expect(() => make({ [name]: undefined })).not.toThrow();
  expect(() => make({ [name]: 1_000 })).not.toThrow();
});

test('what stands for none, or for never, may be 0', () => {
  postgres({
    maxQueued: 0,
    statementTimeoutMs: 0,
    transactionIdleMs: 0,
    snapshotMs: 0,
    maxResultBytes: 2 ** 33,
  });
  expect(redis({ ownConnections: 0, maxPending: undefined }).stats()).toMatchObject({ shared: 4, own: 0 });
});
