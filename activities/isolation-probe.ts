/** Tries to read one tenant's data as another, with tenants that are in use. It writes nothing, and expects to be refused. */
import { Context } from '@temporalio/activity';
import { catalogueError } from '../catalogue/pool.js';
import type { ProbedParty } from '../catalogue/isolation-probes.js';
import type { IsolationProbeActivities } from '../domain/contracts.js';
import { toRecordedError } from '../domain/errors.js';
import { settled } from '../domain/settled.js';
import type { PreparedCell } from '../tenancy/cell-registry.js';
import { openCredential } from '../tenancy/credential.js';
import { crossMongo } from '../tenancy/mongo/crossing.js';
import { canMongoBeProbedAcross } from '../tenancy/mongo/enforcement.js';
import { crossPostgres } from '../tenancy/postgres/crossing.js';
import { crossRedis } from '../tenancy/redis/crossing.js';
import { breachFirst } from '../tenancy/flaw.js';
import { inStore } from '../tenancy/store-error.js';
import type { ActivityDependencies } from './dependencies.js';
import { eachLimited } from './each-limited.js';
import { inCatalogue, toApplicationFailure } from './failure.js';

/** Few at once, because each logs in as a MongoDB user, which takes processor time on both sides. */
const PAIRS_AT_ONCE = 4;

export function isolationProbeActivities(deps: ActivityDependencies): IsolationProbeActivities {
  const { isolationProbes } = deps.catalogue;
  return {
    beginIsolationProbe: ({ operationId }) =>
      inCatalogue(deps, 'begin probe', isolationProbes.begin(operationId)),
    closeIsolationProbe: ({ operationId, error }) =>
      inCatalogue(deps, 'close probe', isolationProbes.close(operationId, error)),

    async probeCell({ operationId, cell, sample }) {
      const { attempt } = Context.current().info;
      try {
        const connections = await deps.cells.get(cell);
        const parties = await isolationProbes.sample(cell, sample);
        const pairs = inACircle(parties);
        const results = await eachLimited(pairs, PAIRS_AT_ONCE, async ([as, target]) => {
          await cross(deps, connections, as, target);
          Context.current().heartbeat();
        });
        const failures = results.flatMap((result) =>
          result.status === 'rejected' ? [result.reason as unknown] : [],
        );
        if (failures.length > 0) throw breachFirst(failures);
        const { trial, mongoEnforcement } = connections.cell;
        const evidence = {
          pairs: pairs.length,
          stores: { postgres: 'row-level security', mongo: mongoSays(connections), redis: 'NOPERM' },
          mongoEnforcement,
          notRefused: trial?.notRefused ?? [],
        };
        await isolationProbes.record(operationId, cell, attempt, { evidence });
        return { pairs: pairs.length };
      } catch (error) {
        const known = catalogueError(error);
        await isolationProbes
          .record(operationId, cell, attempt, { error: toRecordedError(known) })
          .catch((reason: unknown) => deps.log.warn({ err: reason, cell }, 'a probe was not recorded'));
        throw toApplicationFailure(known, deps.log, 'probe');
      }
    },
  };
}

/** Pairs each tenant with the next, so that each tries once and is tried once. */
const inACircle = (parties: readonly ProbedParty[]): [as: ProbedParty, target: ProbedParty][] =>
  parties.length < 2 ? [] : parties.map((as, i) => [as, parties[(i + 1) % parties.length] as ProbedParty]);

async function cross(
  deps: ActivityDependencies,
  connections: PreparedCell,
  as: ProbedParty,
  target: ProbedParty,
): Promise<void> {
  const party = (store: 'mongo' | 'redis') => ({
    tenantId: as.tenantId,
    password: openCredential(deps.secrets, as.tenantId, store, as.credentials),
  });
  const crossings = [
    inStore(
      'postgres',
      crossPostgres(
        connections.postgres.runtime,
        deps.manifest,
        as.tenantId,
        target.tenantId,
        connections.switchTo,
      ),
    ),
    canMongoBeProbedAcross(connections.cell.trial)
      ? inStore('mongo', crossMongo(connections.mongoUrl, deps.manifest, party('mongo'), target.tenantId))
      : Promise.resolve(),
    inStore('redis', crossRedis(connections.redisAsTenant, party('redis'), target.tenantId)),
  ];
  await settled(crossings, breachFirst);
}

const mongoSays = ({ cell }: PreparedCell): string =>
  canMongoBeProbedAcross(cell.trial) ? 'code 13' : 'not tried: the server is known not to refuse';
