/**
 * The moments of a run at which a test can step in: before and after each activity, each statement on the catalogue and
 * each change in a store. Points are named as they happen, such as `after begin mongo`, `after begin mongo 1-10` for a
 * chunk of a batch, `before createUser`, `after SET` (a Redis pipeline goes by its first command), `before provisionMongo`.
 */
import { asyncLocalStorage } from '@temporalio/activity';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import type { Redis } from 'ioredis';
import type { Db, Document, MongoClient } from 'mongodb';
import type { Pool, PoolClient } from 'pg';
import type { ActivityDependencies } from '../../activities/dependencies.js';
import type { PreparedCell } from '../../tenancy/cell-registry.js';

/**
 * Called at each point; the run goes on when it resolves.
 * @param workflowId of the run, where there is one
 */
export type Reach = (point: string, workflowId: string | undefined) => void | Promise<void>;

/** For a worker: what lets `reach` step in. */
export function steppingIn(reach: Reach) {
  return {
    around: (dependencies: ActivityDependencies) => atPoints(dependencies, reach),
    interceptors: { activity: [activityPoints(reach)] },
  };
}

const activityPoints =
  (reach: Reach): ActivityInterceptorsFactory =>
  ({ info }) => ({
    inbound: { execute: (input, next) => aroundOf(reach)(info.activityType, next)(input) },
  });

export function atPoints(dependencies: ActivityDependencies, reach: Reach): ActivityDependencies {
  const { catalogue, cells } = dependencies;
  const { admission, batches, steps } = catalogue;
  const around = aroundOf(reach);
  return {
    ...dependencies,
    catalogue: {
      ...catalogue,
      admission: {
        ...admission,
        admitProvision: around('admit', admission.admitProvision),
        withdraw: around('withdraw', admission.withdraw),
      },
      batches: {
        ...batches,
        begin: around(([, step]) => `begin ${step}`, batches.begin),
        finish: around(([, step]) => `finish ${step}`, batches.finish),
        undone: around('undone', batches.undone),
      },
      steps: {
        ...steps,
        begin: around(([, step]) => `begin ${step}`, steps.begin),
        finish: around(([, step]) => `finish ${step}`, steps.finish),
        undo: async (fence, step, stores, work) => {
          const watched = around(`undo ${step}`, work);
          return around(`finish ${step}`, () => steps.undo(fence, step, stores, watched))();
        },
        activate: around('activate', steps.activate),
        close: around('close', steps.close),
      },
    },
    cells: { ...cells, get: async (name) => watchedCell(await cells.get(name), reach) },
  };
}

function watchedCell(cell: PreparedCell, reach: Reach): PreparedCell {
  const { control, purge } = cell.postgres;
  return {
    ...cell,
    postgres: { ...cell.postgres, control: watchedPool(control, reach), purge: watchedPool(purge, reach) },
    mongo: watchedMongo(cell.mongo, reach),
    redis: watchedRedis(cell.redis, reach),
  };
}

export function watchedPool(pool: Pool, reach: Reach): Pool {
  const around = aroundOf(reach);
  const name = ([statement]: [unknown]): string =>
    typeof statement === 'object' && statement !== null && 'name' in statement
      ? String(statement.name)
      : (String(statement).trim().split(/\s/)[0] ?? '');
  const query = (target: Pool | PoolClient) =>
    around(name, (...args: [unknown]) => target.query(...(args as [string])));
  return proxied(pool, {
    query: query(pool),
    connect: async () => {
      const client = await pool.connect();
      return proxied(client, { query: query(client) });
    },
  });
}

function watchedMongo(client: MongoClient, reach: Reach): MongoClient {
  const around = aroundOf(reach);
  const watchedDb = (db: Db): Db =>
    proxied(db, {
      command: around(
        ([document]) => Object.keys(document)[0] ?? '',
        (document: Document) => db.command(document),
      ),
      dropDatabase: around('dropDatabase', () => db.dropDatabase()),
    });
  return proxied(client, { db: (name: string) => watchedDb(client.db(name)) });
}

function watchedRedis(redis: Redis, reach: Reach): Redis {
  const around = aroundOf(reach);
  return proxied(redis, {
    acl: around(
      ([verb]) => verb ?? '',
      (...args: string[]) => redis.acl(...(args as ['WHOAMI'])),
    ),
    del: around('DEL', (key: string) => redis.del(key)),
    pipeline: () => {
      const pipeline = redis.pipeline();
      let first = '';
      return new Proxy(pipeline, {
        get(target, key) {
          if (key === 'exec') return around(first, () => target.exec());
          const value: unknown = Reflect.get(target, key, target);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]) => {
            first ||= key === 'acl' || key === 'call' ? String(args[0]) : String(key).toUpperCase();
            return Reflect.apply(value, target, args) as unknown;
          };
        },
      });
    },
  });
}

/** The same object but for some of its methods, which keep their own `this`. */
function proxied<T extends object>(target: T, replaced: Readonly<Record<string, unknown>>): T {
  return new Proxy(target, {
    get(real, key) {
      if (typeof key === 'string' && Object.hasOwn(replaced, key)) return replaced[key];
      const value: unknown = Reflect.get(real, key, real);
      return typeof value === 'function' ? (value.bind(real) as unknown) : value;
    },
  });
}

type Name<A> = string | ((args: A) => string);

const aroundOf =
  (reach: Reach) =>
  <A extends unknown[], T>(name: Name<A>, work: (...args: A) => Promise<T>) =>
  async (...args: A): Promise<T> => {
    const point = typeof name === 'string' ? name : name(args);
    const workflowId = asyncLocalStorage.getStore()?.info.workflowExecution?.workflowId;
    await reach(`before ${point}`, workflowId);
    const result = await work(...args);
    await reach(`after ${point}`, workflowId);
    return result;
  };
