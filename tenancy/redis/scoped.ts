/**
 * A tenant's Redis: the keys of its own namespaces and nothing else. The prefix is put on here; the tenant's ACL user is
 * the lock behind it.
 */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import type { Manifest } from '../../domain/manifest.js';
import type { CellServers } from '../context/cell-servers.js';
import { refuseOtherTenants, type TenantContext } from '../context/tenant-context.js';
import { isSignal } from '../signal.js';
import { storeError } from '../store-error.js';
import { COMMANDS, flat, MAX_LENGTH, type Sent } from './commands.js';
import { type Keys, keysOf, refusedStatement } from './keys.js';
import { type LanesOptions, type LaneStats, openLanes } from './lanes.js';
import { createQuotas, hasQuota, indexed, placesOf, type Send } from './quota.js';
import { encode, errorIn, type Reply, ReplyError } from './resp.js';

export interface ScopedRedis {
  readonly store: 'redis';
  readonly tenantId: TenantId;
  /** One that the manifest declares, or `session`, `cache` or `rate`. @throws TenantryError STATEMENT_REFUSED */
  namespace(name: string): RedisNamespace;
  /**
   * The same, whose commands are given up when the signal says so: unsent ones are not sent any more.
   * @throws TenantryError STATEMENT_REFUSED of what is no signal
   */
  withSignal(signal: AbortSignal): ScopedRedis;
}

type Name = keyof typeof COMMANDS;
type Args<N extends Name> = (typeof COMMANDS)[N] extends (keys: Keys, ...args: infer A) => unknown
  ? A
  : never;
type Answer<N extends Name> = ReturnType<(typeof COMMANDS)[N]> extends Sent<infer R> ? R : never;

/** ioredis' commands with keys as the product knows them. A failure is a TenantryError. */
export type RedisNamespace = { readonly [N in Name]: (...args: Args<N>) => Promise<Answer<N>> } & {
  /** What the manifest lets a key of it live at most. */
  readonly ttlSeconds: number | undefined;
  /** Commands sent in one write; each has a result of its own. */
  pipeline(): Chain;
  /** The same as one transaction: all of them run, with nobody else's in between, or none. */
  multi(): Chain;
};

export type Chain<T extends readonly unknown[] = []> = {
  readonly [N in Name]: (...args: Args<N>) => Chain<[...T, Answer<N>]>;
} & { exec(): Promise<ChainResults<T>> };

export type ChainResults<T extends readonly unknown[]> = {
  [I in keyof T]: [error: null, result: T[I]] | [error: TenantryError, result: undefined];
};

export interface ScopedRedisOptions extends Omit<LanesOptions, 'url'> {
  readonly servers: Pick<CellServers, 'redisUrl'>;
  readonly manifest: Manifest;
}

export interface ScopedRedisSource {
  /** Costs nothing: connections are made when first needed, and shared. */
  forTenant(context: Pick<TenantContext, 'tenantId' | 'mode'>): ScopedRedis;
  stats(): LaneStats;
  close(): Promise<void>;
}

export function createScopedRedis({ servers, manifest, ...options }: ScopedRedisOptions): ScopedRedisSource {
  const lanes = openLanes({ ...options, url: servers.redisUrl });
  const quotas = createQuotas();

  return {
    forTenant: (context) => scoped(context, undefined),
    stats: lanes.stats,
    close: () => Promise.resolve(lanes.close()),
  };

  function scoped(
    context: Pick<TenantContext, 'tenantId' | 'mode'>,
    signal: AbortSignal | undefined,
  ): ScopedRedis {
    const { tenantId, mode } = context;
    return Object.freeze<ScopedRedis>({
      store: 'redis',
      tenantId,
      namespace: (name) => namespaceOf(performer(tenantId, mode, signal, name)),
      withSignal(next) {
        if (!isSignal(next)) throw refusedStatement('a signal that is none');
        return scoped(context, signal === undefined ? next : AbortSignal.any([signal, next]));
      },
    });
  }

  function performer(
    tenantId: TenantId,
    mode: TenantContext['mode'],
    signal: AbortSignal | undefined,
    name: string,
  ): Performer {
    const keys = keysOf(manifest, tenantId, name);
    const isLimited = hasQuota(keys);
    const send = (text: string, count: number, repeatable: boolean): Promise<Reply[]> =>
      lanes.send(tenantId, { text, count, repeatable, signal });

    const sendForQuota: Send = async (commands, { atomic, isRead }) => {
      if (commands.length === 0) return [];
      const batch = new Batch(atomic);
      for (const command of commands) batch.add(command);
      const replies = batch.results(await send(batch.text(), batch.count, isRead));
      const error = replies.find((reply) => reply instanceof ReplyError);
      if (error !== undefined) throw storeError('redis', error);
      return replies;
    };

    return {
      keys,
      async perform(commands, atomic) {
        refuseOtherTenants(tenantId);
        const isRead = commands.every((command) => command.isRead);
        if (!isRead && mode === 'read-only') throw new TenantryError('TENANT_SUSPENDED', { mode });
        const batch = new Batch(atomic);
        for (const command of commands) {
          const { before = [], behind = [] } = isLimited ? indexed(tenantId, keys, command) : {};
          for (const args of before) batch.addSilent(args);
          batch.add(flat(command.args));
          for (const args of command.behind ?? []) batch.addSilent(flat(args));
          for (const args of behind) batch.addSilent(args);
        }
        const go = async (): Promise<Reply[]> => batch.results(await send(batch.text(), batch.count, isRead));
        return isLimited ? withinQuota(commands, batch, go) : go();
      },
    };

    async function withinQuota(
      commands: readonly Sent<unknown>[],
      batch: Batch,
      go: () => Promise<Reply[]>,
    ): Promise<Reply[]> {
      const writes = commands.filter(({ makes, grows }) => makes !== undefined || grows === true);
      let end = (): void => undefined;
      if (writes.length > 0) {
        const bytes = writes.reduce((sum, { args }) => sum + Buffer.byteLength(encode(flat(args))), 0);
        const { places, giveBack } = placesOf(tenantId, keys, writes);
        for (const args of giveBack) batch.addSilent(args);
        end = await quotas.claim(tenantId, keys, { places, bytes }, sendForQuota);
      }
      const replies = await go().finally(end);
      const gone = commands.flatMap(({ takes }, i) =>
        takes !== undefined && isText(replies[i]) ? takes : [],
      );
      // Done is done: what is not taken out of the index now is counted until a refused write looks for it.
      await quotas.forget(tenantId, keys, gone, sendForQuota).catch(() => undefined);
      return replies;
    }
  }
}

const isText = (reply: Reply | undefined): boolean => typeof reply === 'string';

/** Runs commands and gives the reply of each, errors among them. */
interface Performer {
  readonly keys: Keys;
  perform(commands: readonly Sent<unknown>[], atomic: boolean): Promise<Reply[]>;
}

/** The text of commands that go together, and which of the replies are whose. */
class Batch {
  private body = '';
  private sent = 0;
  private readonly wanted: number[] = [];

  constructor(private readonly atomic: boolean) {}

  get count(): number {
    return this.atomic ? this.sent + 2 : this.sent;
  }
  add(args: readonly string[]): void {
    this.wanted.push(this.sent);
    this.addSilent(args);
  }
  addSilent(args: readonly string[]): void {
    const text = encode(args);
    if (this.body.length + text.length > MAX_LENGTH) throw refusedStatement('too much for one write');
    this.body += text;
    this.sent += 1;
  }
  text(): string {
    return this.atomic ? MULTI + this.body + EXEC : this.body;
  }
  results(replies: Reply[]): Reply[] {
    if (!this.atomic) return this.wanted.map((at) => replies[at] ?? null);
    const executed = replies.at(-1);
    // Refused as a whole, for the reason that one of its commands was answered with.
    if (!Array.isArray(executed))
      throw storeError(
        'redis',
        replies.find((reply) => reply instanceof ReplyError) ?? new ReplyError('EXECABORT'),
      );
    return this.wanted.map((at) => executed[at] ?? null);
  }
}

const MULTI = encode(['MULTI']);
const EXEC = encode(['EXEC']);

// The surface, made from the table of commands -----------------------------------------------------------------------

type AnyCommand = (keys: Keys, ...args: unknown[]) => Sent<unknown>;
const TABLE = Object.entries(COMMANDS) as unknown as [Name, AnyCommand][];

/** A performer sends anything, so nothing that is handed out leads to it. */
class DirectCommands {
  readonly #performer: Performer;
  constructor(performer: Performer) {
    this.#performer = performer;
    Object.freeze(this);
  }
  get ttlSeconds(): number | undefined {
    return this.#performer.keys.ttlSeconds;
  }
  pipeline(): ChainedCommands {
    return new ChainedCommands(this.#performer, false);
  }
  multi(): ChainedCommands {
    return new ChainedCommands(this.#performer, true);
  }
  static wireKey(commands: DirectCommands, key: string): string {
    return commands.#performer.keys.wire(key);
  }
  static async run(commands: DirectCommands, command: AnyCommand, args: unknown[]): Promise<unknown> {
    const sent = command(commands.#performer.keys, ...args);
    const [reply = null] = await commands.#performer.perform([sent], false);
    const error = errorIn(reply);
    if (error !== undefined) throw storeError('redis', error);
    return sent.reply(reply);
  }
}

class ChainedCommands {
  readonly #commands: Sent<unknown>[] = [];
  readonly #performer: Performer;
  readonly #atomic: boolean;
  constructor(performer: Performer, atomic: boolean) {
    this.#performer = performer;
    this.#atomic = atomic;
    Object.freeze(this);
  }
  static add(chain: ChainedCommands, command: AnyCommand, args: unknown[]): void {
    chain.#commands.push(command(chain.#performer.keys, ...args));
  }
  async exec(): Promise<unknown[]> {
    if (this.#commands.length === 0) return [];
    // Taken out, so that the same chain never runs twice.
    const commands = this.#commands.splice(0);
    const replies = await this.#performer.perform(commands, this.#atomic);
    return replies.map((reply, i) => {
      const error = errorIn(reply);
      return error === undefined
        ? [null, commands[i]?.reply(reply)]
        : [storeError('redis', error), undefined];
    });
  }
}

for (const [name, command] of TABLE) {
  Object.defineProperty(DirectCommands.prototype, name, {
    value: function (this: DirectCommands, ...args: unknown[]) {
      return DirectCommands.run(this, command, args);
    },
  });
  Object.defineProperty(ChainedCommands.prototype, name, {
    value: function (this: ChainedCommands, ...args: unknown[]) {
      ChainedCommands.add(this, command, args);
      return this;
    },
  });
}
for (const { prototype } of [DirectCommands, ChainedCommands]) {
  // Nobody makes one for a performer of their own; and all tenants' handles share what is on it.
  Object.defineProperty(prototype, 'constructor', { value: undefined });
  Object.freeze(prototype);
}

/** A key as the server has it, so the tenant's and the namespace's alone, whatever else the handle is made to say. */
export const wireKeyIn = (namespace: RedisNamespace, key: string): string =>
  DirectCommands.wireKey(namespace as unknown as DirectCommands, key);

/** The methods are made from the table that the type is made from. */
const namespaceOf = (performer: Performer): RedisNamespace =>
  new DirectCommands(performer) as unknown as RedisNamespace;
