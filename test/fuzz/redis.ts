/** What actors do in Redis: pipelines, transactions and single commands over connections that all tenants share. */
import { Redis } from 'ioredis';
import { redisKey, redisUserName } from '../../domain/names.js';
import type { Chain, RedisNamespace } from '../../tenancy/redis/scoped.js';
import type { Attempt, Rule } from './referee.js';
import { ABORTED, type Scene } from './scene.js';
import { ANCHOR } from './stage.js';

interface RedisCommand extends Omit<Rule, 'store'> {
  readonly weight: number;
  add(chain: Chain, scene: Scene): unknown;
}

const NAMESPACE = 'session';

export async function playRedis(scene: Scene): Promise<void> {
  await Promise.all(Array.from({ length: 1 + scene.random.below(4) }, () => playOnce(scene)));
}

async function playOnce(scene: Scene): Promise<void> {
  const { random, tenant } = scene;
  const how = random.weighted(WAYS).way;
  if (how === 'past the wrapper') return playPastTheWrapper(scene);
  if (how === 'refused name') return playRefusedName(scene);
  const commands = Array.from({ length: how === 'single' ? 1 : 20 }, () => random.weighted(COMMANDS));
  const redis = how === 'cancelled' ? tenant.redis.withSignal(scene.abortSoon()) : tenant.redis;
  const namespace = redis.namespace(NAMESPACE);
  const chain = (how === 'transaction' ? namespace.multi() : namespace.pipeline()) as Chain;
  for (const command of commands) command.add(chain, scene);
  const codes = how === 'cancelled' ? [ABORTED] : [];
  const judges = commands.map(({ weight: _weight, add: _add, ...rule }) =>
    scene.referee.begin(scene.subject, { ...rule, store: 'redis', codes }),
  );
  const attempts = await run(chain, commands.length);
  for (const [position, judge] of judges.entries()) judge(attempts[position] ?? attempts[0] ?? NO_ANSWER);
}

const NO_ANSWER: Attempt = { error: new Error('no answer') };

const WAYS = [
  { weight: 60, way: 'pipeline' },
  { weight: 15, way: 'single' },
  { weight: 15, way: 'transaction' },
  { weight: 8, way: 'cancelled' },
  { weight: 1, way: 'refused name' },
  { weight: 0.5, way: 'past the wrapper' },
] as const;

/** What each command came to; where the whole was refused, the same for each. */
async function run(chain: Chain, count: number): Promise<Attempt[]> {
  try {
    const results = (await chain.exec()) as unknown as [Error | null, unknown][];
    return results.map(([error, reply]) =>
      error === null ? { seen: { values: reply, count: reply === null ? 0 : 1 } } : { error },
    );
  } catch (error) {
    return Array.from({ length: count }, () => ({ error }));
  }
}

const name = ({ random }: Scene, type: string): string => `${type}${random.below(10)}`;
const field = ({ random }: Scene): string => `f${random.below(8)}`;

/** How another tenant's key might be written by whoever hopes that the prefix can be left. */
const strangeKey = ({ random, other }: Scene): string => {
  const theirs = redisKey(other.tenantId, NAMESPACE, ANCHOR.key);
  return random.pick([
    theirs,
    `../../${theirs}`,
    `\r\nGET ${theirs}\r\n`,
    `x\r\n$3\r\nGET\r\n$${theirs.length}\r\n${theirs}\r\n`,
    `}:${theirs}`,
    '*',
    `\0${theirs}`,
  ]);
};

const COMMANDS: readonly RedisCommand[] = [
  { kind: 'own key', weight: 20, must: 'see its own', add: (chain) => chain.get(ANCHOR.key) },
  { kind: 'get', weight: 20, add: (chain, scene) => chain.get(name(scene, 's')) },
  { kind: 'set', weight: 15, write: true, add: (chain, scene) => chain.set(name(scene, 's'), scene.value()) },
  {
    kind: 'mget',
    weight: 8,
    must: 'see its own',
    add: (chain, scene) => chain.mget(ANCHOR.key, name(scene, 's'), name(scene, 's'), strangeKey(scene)),
  },
  { kind: 'getset', weight: 4, write: true, add: (c, scene) => c.getset(name(scene, 's'), scene.value()) },
  { kind: 'getdel', weight: 3, write: true, add: (chain, scene) => chain.getdel(name(scene, 's')) },
  {
    kind: 'hset',
    weight: 5,
    write: true,
    add: (chain, scene) => chain.hset(name(scene, 'h'), { [field(scene)]: scene.value() }),
  },
  { kind: 'hgetall', weight: 6, add: (chain, scene) => chain.hgetall(name(scene, 'h')) },
  { kind: 'hget', weight: 4, add: (chain, scene) => chain.hget(name(scene, 'h'), field(scene)) },
  {
    kind: 'lpush',
    weight: 3,
    write: true,
    add: (chain, scene) => chain.lpush(name(scene, 'l'), scene.value()),
  },
  { kind: 'ltrim', weight: 3, write: true, add: (chain, scene) => chain.ltrim(name(scene, 'l'), 0, 5) },
  { kind: 'lrange', weight: 4, add: (chain, scene) => chain.lrange(name(scene, 'l'), 0, -1) },
  {
    kind: 'sadd',
    weight: 3,
    write: true,
    add: (chain, scene) => chain.sadd(name(scene, 'e'), scene.value()),
  },
  { kind: 'smembers', weight: 3, add: (chain, scene) => chain.smembers(name(scene, 'e')) },
  { kind: 'spop', weight: 2, write: true, add: (chain, scene) => chain.spop(name(scene, 'e')) },
  {
    kind: 'zadd',
    weight: 3,
    write: true,
    add: (chain, scene) => chain.zadd(name(scene, 'z'), { [scene.value()]: scene.random.below(100) }),
  },
  { kind: 'zrange', weight: 3, add: (chain, scene) => chain.zrange(name(scene, 'z'), 0, -1) },
  { kind: 'zpopmin', weight: 2, write: true, add: (chain, scene) => chain.zpopmin(name(scene, 'z')) },
  {
    kind: 'xadd',
    weight: 2,
    write: true,
    add: (chain, scene) => chain.xadd(name(scene, 'x'), { value: scene.value() }, { maxLength: 10 }),
  },
  { kind: 'xrange', weight: 2, add: (chain, scene) => chain.xrange(name(scene, 'x'), '-', '+', 20) },
  { kind: 'xread', weight: 2, add: (chain, scene) => chain.xread({ [name(scene, 'x')]: '0' }, 10) },
  {
    kind: 'del',
    weight: 3,
    write: true,
    add: (chain, scene) => chain.del(name(scene, 's'), name(scene, 'h')),
  },
  { kind: "another's key", weight: 8, must: 'see nothing', add: (c, scene) => c.get(strangeKey(scene)) },
];

/** Names that the data plane takes for nobody's. */
async function playRefusedName(scene: Scene): Promise<void> {
  const { random, tenant, other } = scene;
  const theirs = redisKey(other.tenantId, NAMESPACE, ANCHOR.key);
  const rule: Rule = {
    store: 'redis',
    kind: 'refused name',
    must: 'be refused',
    codes: ['STATEMENT_REFUSED'],
  };
  const ask = random.pick<(namespace: () => RedisNamespace) => Promise<unknown>>([
    () => tenant.redis.namespace(theirs).get(ANCHOR.key),
    () => tenant.redis.namespace('__proto__').get(ANCHOR.key),
    (namespace) => namespace().get([theirs] as unknown as string),
    (namespace) => namespace().get('\ud800'),
  ]);
  await scene.attempt(rule, async () => ({
    values: await ask(() => tenant.redis.namespace(NAMESPACE)),
    count: 1,
  }));
}

/** With the tenant's own password and nothing of ours in between: what the server itself refuses. */
async function playPastTheWrapper(scene: Scene): Promise<void> {
  const { subject, other } = scene;
  const theirs = redisKey(other.tenantId, NAMESPACE, ANCHOR.key);
  const redis = new Redis(redisUrlOf(scene), {
    username: redisUserName(subject.tenantId),
    password: subject.passwords.redis.value,
    lazyConnect: true,
    enableReadyCheck: false,
    disableClientInfo: true,
    retryStrategy: () => null,
  });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    const commands: readonly (readonly [string, ...string[]])[] = [
      ['GET', theirs],
      ['SET', `${theirs}:stolen`, scene.value()],
      ['TYPE', theirs],
      ['COPY', theirs, redisKey(subject.tenantId, NAMESPACE, 's0')],
      ['PUBLISH', theirs, scene.value()],
      ['KEYS', '*'],
      ['SCAN', '0'],
      ['EVAL', 'return 1', '0'],
      ['ACL', 'LIST'],
    ];
    await Promise.all(
      commands.map(([command, ...args]) =>
        scene.attempt(
          {
            store: 'redis',
            kind: `past the wrapper: ${command}`,
            must: 'be refused',
            // A password that was rotated on the way, or a connection that was killed, refuses as well.
            codes: REFUSED,
          },
          async () => ({ values: await redis.call(command, ...args).catch(named), count: 1 }),
        ),
      ),
    );
  } catch {
    // It was rotated or killed while it logged in: nothing was tried.
  } finally {
    redis.disconnect();
  }
}

const REFUSED = ['NOPERM', 'NOAUTH', 'WRONGPASS', 'CLOSED'];

/** By the first word of Redis' reply, or CLOSED where there was none. */
function named(error: unknown): never {
  const [word = ''] = error instanceof Error ? error.message.split(' ') : [];
  const known = Object.assign(new Error('refused by Redis itself', { cause: error }), {
    name: /^[A-Z]+$/.test(word) ? word : 'CLOSED',
  });
  throw known;
}

const redisUrlOf = ({ subject }: Scene): string => {
  const { host = '127.0.0.1', port = 6379 } = subject.cell.redis.options;
  return `redis://${host}:${port}`;
};
