// The data plane in every store and on the way in, part by part in one run: `npm run bench -- data-plane`. Each part also
// runs by itself, as data-plane-postgres, data-plane-redis, data-plane-mongo and data-plane-express. See docs/benchmarks.md.

import type { Benchmark, Figure } from '../harness.js';
import { withServers } from '../servers.js';
import { measureExpress } from './data-plane-express.js';
import { measureMongo } from './data-plane-mongo.js';
import { measurePostgres } from './data-plane-postgres.js';
import { measureRedis } from './data-plane-redis.js';

const benchmark: Benchmark = {
  name: 'data-plane',
  async run(say) {
    const figures: Record<string, Figure> = {};
    const environment: Record<string, string> = {};
    const part = (measured: {
      readonly figures: Record<string, Figure>;
      readonly environment: Record<string, string>;
    }): void => {
      Object.assign(figures, measured.figures);
      Object.assign(environment, measured.environment);
    };
    // One server at a time: the others would take part of the machine even when nobody asks them.
    say('PostgreSQL');
    part(
      await withServers(['postgres'], async (s) => ({
        figures: await measurePostgres({ postgresUrl: s.urls.postgres, say }),
        environment: s.environment,
      })),
    );
    say('Redis');
    part(
      await withServers(['redis'], async (s) => ({
        figures: await measureRedis({ redisUrl: s.urls.redis, say }),
        environment: s.environment,
      })),
    );
    say('MongoDB');
    part(
      await withServers(['mongo'], async (s) => ({
        figures: await measureMongo({ mongoUrl: s.urls.mongo, say }),
        environment: s.environment,
      })),
    );
    say('Express');
    Object.assign(figures, await measureExpress(say));
    return { figures, environment };
  },
};
export default benchmark;
