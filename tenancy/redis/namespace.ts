/**
 * A tenant's namespace in Redis: a marker that claims it and an ACL user that may use it. Both may be made again, at
 * the same time and after a crash half-way. Lists are taken, so that many tenants cost one round trip.
 */
import type { ChainableCommander, Redis } from 'ioredis';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisKeyPrefix, redisMarkerKey, redisUserName } from '../../domain/names.js';
import type { Flaw } from '../flaw.js';
import { aclArguments, passwordHash } from './acl.js';

export interface Namespace {
  readonly tenantId: TenantId;
  readonly password: string;
}

/** The marker's value: whose namespace it is. */
const claim = (tenantId: TenantId): string => `tenantry/1 ${tenantId}`;

/**
 * @returns the tenants whose name is taken by something foreign; nothing was made for them.
 */
export async function ensureNamespaces(redis: Redis, namespaces: readonly Namespace[]): Promise<TenantId[]> {
  const claims = await run(redis, namespaces, (pipeline, { tenantId }) =>
    pipeline.set(redisMarkerKey(tenantId), claim(tenantId), 'NX').get(redisMarkerKey(tenantId)),
  );
  const foreign = namespaces.filter(({ tenantId }, i) => claims[2 * i + 1] !== claim(tenantId));
  const ours = namespaces.filter((namespace) => !foreign.includes(namespace));
  await ensureUsers(redis, ours);
  return foreign.map(({ tenantId }) => tenantId);
}

/**
 * As `ensureNamespaces`, for tenants that are there already; what the reconciler does after a restart. The users whose
 * markers are there come first: a Redis that is full takes them still, and no marker.
 * @param claiming told of those whose marker had been lost, before one is set: it may be there when this fails half-way
 * @returns the tenants whose marker had been lost and was set again, and those whose name is taken by something foreign
 */
export async function restoreNamespaces(
  redis: Redis,
  namespaces: readonly Namespace[],
  claiming: (tenants: readonly TenantId[]) => void = () => undefined,
): Promise<{ claimed: TenantId[]; foreign: TenantId[] }> {
  const markers = await run(redis, namespaces, (pipeline, { tenantId }) =>
    pipeline.get(redisMarkerKey(tenantId)),
  );
  const marked = namespaces.filter(({ tenantId }, i) => markers[i] === claim(tenantId));
  const unmarked = namespaces.filter((_, i) => markers[i] === null);
  const taken = namespaces.filter((one) => !marked.includes(one) && !unmarked.includes(one));
  await ensureUsers(redis, marked);
  claiming(unmarked.map(({ tenantId }) => tenantId));
  const takenMeanwhile = await ensureNamespaces(redis, unmarked);
  return {
    claimed: unmarked.map(({ tenantId }) => tenantId).filter((id) => !takenMeanwhile.includes(id)),
    foreign: [...taken.map(({ tenantId }) => tenantId), ...takenMeanwhile],
  };
}

/** Makes the ACL users alone. */
async function ensureUsers(redis: Redis, namespaces: readonly Namespace[]): Promise<void> {
  await run(redis, namespaces, (pipeline, { tenantId, password }) =>
    pipeline.acl('SETUSER', redisUserName(tenantId), ...aclArguments(tenantId, password)),
  );
}

/**
 * Takes the ACL user away, which cuts its connections, and a marker of ours that was set for nothing. Not the keys:
 * where there are any, it is for an undo to know them by the marker that was there.
 */
export async function withdrawNamespace(
  redis: Redis,
  tenantId: TenantId,
  { marker }: { marker: boolean },
): Promise<void> {
  await redis.acl('DELUSER', redisUserName(tenantId));
  if (!marker) return;
  const [value] = await run(redis, [tenantId], (pipeline) => pipeline.get(redisMarkerKey(tenantId)));
  if (value === claim(tenantId)) await redis.del(redisMarkerKey(tenantId));
}

/** By Redis' own catalogue and by dry runs as the user: what is wrong, by tenant; nothing when all is as declared. */
export async function inspectNamespaces(
  redis: Redis,
  namespaces: readonly Namespace[],
  stranger: TenantId,
): Promise<Map<TenantId, Flaw>> {
  const answers = await run(redis, namespaces, (pipeline, { tenantId }) => {
    const user = redisUserName(tenantId);
    pipeline.get(redisMarkerKey(tenantId)).acl('GETUSER', user);
    for (const { command } of dryRuns(tenantId, stranger)) pipeline.call('ACL', 'DRYRUN', user, ...command);
    return pipeline;
  });
  const flaws = new Map<TenantId, Flaw>();
  for (const [i, { tenantId, password }] of namespaces.entries()) {
    const runs = dryRuns(tenantId, stranger);
    const [marker, user, ...tried] = answers.slice(i * (2 + runs.length), (i + 1) * (2 + runs.length));
    const through = runs.find(({ allowed }, position) => !allowed && tried[position] === 'OK');
    const refused = runs.find(({ allowed }, position) => allowed && tried[position] !== 'OK');
    if (through !== undefined) flaws.set(tenantId, { detail: through.what, breach: true });
    else if (marker !== claim(tenantId))
      flaws.set(tenantId, { detail: 'the marker is missing', breach: false });
    else if (!JSON.stringify(user).includes(passwordHash(password)))
      flaws.set(tenantId, { detail: 'the ACL user is missing', breach: false });
    else if (refused !== undefined)
      flaws.set(tenantId, { detail: `${refused.what} is refused`, breach: false });
  }
  return flaws;
}

/**
 * Cuts live connections (DELUSER), removes keys and marker.
 * @returns how many keys there were
 */
export async function dropNamespace(
  redis: Redis,
  tenantId: TenantId,
): Promise<{ keysDeleted: number; foreign: boolean }> {
  await redis.acl('DELUSER', redisUserName(tenantId));
  const [marker] = await run(redis, [tenantId], (pipeline) => pipeline.get(redisMarkerKey(tenantId)));
  // A namespace that somebody else marked is not ours to empty.
  if (marker !== null && marker !== claim(tenantId)) return { keysDeleted: 0, foreign: true };
  if (marker === null) return { keysDeleted: 0, foreign: false };
  let keysDeleted = 0;
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', `${redisKeyPrefix(tenantId)}*`, 'COUNT', 1_000);
    if (keys.length > 0) keysDeleted += await redis.unlink(...keys);
    cursor = next;
  } while (cursor !== '0');
  // Last, so that a crash before leaves the mark by which the next attempt knows the keys as ours.
  await redis.del(redisMarkerKey(tenantId));
  return { keysDeleted, foreign: false };
}

export async function namespacePresent(
  redis: Redis,
  tenantId: TenantId,
): Promise<{ marker: boolean; user: boolean }> {
  const [marker, user] = await run(redis, [tenantId], (pipeline) =>
    pipeline.get(redisMarkerKey(tenantId)).acl('GETUSER', redisUserName(tenantId)),
  );
  return { marker: marker === claim(tenantId), user: user !== null };
}

interface DryRun {
  readonly what: string;
  readonly command: readonly string[];
  readonly allowed: boolean;
}

function dryRuns(tenantId: TenantId, stranger: TenantId): DryRun[] {
  const [own, theirs] = [`${redisKeyPrefix(tenantId)}probe`, `${redisKeyPrefix(stranger)}probe`];
  return [
    { what: 'a key of its own', command: ['GET', own], allowed: true },
    { what: 'setting a key of its own', command: ['SET', own, '1'], allowed: true },
    { what: "reads another's key", command: ['GET', theirs], allowed: false },
    { what: "sets another's key", command: ['SET', theirs, '1'], allowed: false },
    { what: "publishes to another's channel", command: ['PUBLISH', theirs, '1'], allowed: false },
    { what: 'lists keys', command: ['KEYS', '*'], allowed: false },
    { what: 'lists keys', command: ['SCAN', '0'], allowed: false },
    { what: 'runs scripts', command: ['EVAL', 'return 1', '0'], allowed: false },
  ];
}

/** What is read of a marker that is no string: it is nobody's claim. */
const OF_ANOTHER_TYPE = '';
/** What a dry run says of a user that is not there. */
const NO_USER = /^ERR User '.*' not found/;

/** All commands of all items in one write; the first error of any is thrown. */
async function run<T>(
  redis: Redis,
  items: readonly T[],
  add: (pipeline: ChainableCommander, item: T) => ChainableCommander,
): Promise<unknown[]> {
  if (items.length === 0) return [];
  const pipeline = redis.pipeline();
  for (const item of items) add(pipeline, item);
  const results = await pipeline.exec();
  if (results === null) throw new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' });
  return results.map(([error, value]) => {
    if (error?.message.startsWith('WRONGTYPE')) return OF_ANOTHER_TYPE;
    if (error !== null && NO_USER.test(error.message)) return null;
    if (error !== null) throw error;
    return value;
  });
}
