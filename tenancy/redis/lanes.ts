/**
 * The connections of a process to one Redis: a few that all tenants share, and one of its own for each of the busiest tenants.
 * Only the tenant of a request decides which connection it takes.
 */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { redisUserName } from '../../domain/names.js';
import type { TenantCredentials } from '../context/cell-servers.js';
import { wholeSettings } from '../positive.js';
import { throwIfAborted, whenAborted } from '../signal.js';
import { type Account, type Exchange, Lane, type Outcome } from './lane.js';
import { type Owner, OwnLanes } from './own-lanes.js';
import type { Reply } from './resp.js';

export interface LanesOptions {
  readonly url: string;
  readonly credentials: TenantCredentials;
  /** Connections that all tenants share. Default: 4. */
  readonly sharedConnections?: number | undefined;
  /** How many tenants may have a connection of their own. Default: 64; 0 for none. */
  readonly ownConnections?: number | undefined;
  /** How many requests within about ten seconds give a tenant a connection of its own. Default: 500. */
  readonly promoteAt?: number | undefined;
  /** Milliseconds for a connection and its first login. Default: 5,000. */
  readonly connectTimeout?: number | undefined;
  /** Milliseconds that a command may take, waiting for a connection included. Default: 5,000. */
  readonly commandTimeout?: number | undefined;
  /** How many requests may wait for an answer: of all tenants (default 20,000), and of one (default 5,000). */
  readonly maxPending?: number | undefined;
  readonly maxPendingPerTenant?: number | undefined;
}

export interface Request {
  readonly text: string;
  readonly count: number;
  /** True for reads: the request may be sent again when it is not known whether it ran. */
  readonly repeatable: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface LaneStats {
  readonly shared: number;
  readonly own: number;
  readonly connected: number;
  /** Requests without an answer yet. */
  readonly pending: number;
  /** This and the following are counted since the start. */
  readonly connects: number;
  readonly logins: number;
  readonly promotions: number;
  readonly evictions: number;
}

export interface Lanes {
  send(tenantId: TenantId, request: Request): Promise<Reply[]>;
  stats(): LaneStats;
  close(): void;
}

interface User extends Owner {
  readonly id: TenantId;
  readonly shared: Lane;
  account: Account | undefined;
  /** Set while the password is being asked for. */
  asking: Promise<void> | undefined;
  /** The connection that has its requests without an answer. */
  lane: Lane | undefined;
  pending: number;
  /** Requests that wait for the password, or for earlier ones on another connection: a tenant's requests keep their order. */
  held: Waiting[];
  /** The newest password was refused: until then the catalogue is not asked again. */
  refusedUntil: number;
}

/** A request on its way. */
interface Waiting extends Omit<Exchange, 'account'> {
  account: Account;
  readonly user: User;
  readonly request: Request;
  readonly since: number;
  lane: Lane | undefined;
  loginsRefused: number;
  losses: number;
  /** A connection has it and has not reported its outcome yet. */
  isUnderWay: boolean;
  isOver: boolean;
  resolve(replies: Reply[]): void;
  reject(error: unknown): void;
}

const ASK_AGAIN_AFTER = 100;
const MAX_BYTES = 64 * 2 ** 20;
const MAX_USERS = 50_000;
const NOBODY: Account = { user: '', password: '' };
const DEFAULTS = {
  sharedConnections: 4,
  ownConnections: 64,
  promoteAt: 500,
  connectTimeout: 5_000,
  commandTimeout: 5_000,
  maxPending: 20_000,
  maxPendingPerTenant: 5_000,
};

/** @throws RangeError of a setting that is no whole number from 1 (`ownConnections`: from 0) */
export function openLanes(options: LanesOptions): Lanes {
  const { url, credentials } = options;
  const settings = wholeSettings(DEFAULTS, options, ['ownConnections']);
  const { sharedConnections, ownConnections, promoteAt, maxPending, maxPendingPerTenant } = settings;
  const { connectTimeout, commandTimeout } = settings;
  const laneNamed = (name: string): Lane => new Lane({ url, name, connectTimeout, commandTimeout });
  const shared = Array.from({ length: sharedConnections }, () => laneNamed('tenantry-shared'));
  const users = new Map<TenantId, User>();
  const own = new OwnLanes({ atMost: ownConnections, promoteAt, open: () => laneNamed('tenantry-own') });
  /** The users whose `held` is not empty. */
  const holding = new Set<User>();
  let next = 0;
  let isClosed = false;
  let pending = 0;
  let pendingBytes = 0;

  const checkTime = (): void => {
    const now = performance.now();
    for (const lane of shared) lane.checkTime(now);
    own.checkTime(now);
    for (const user of holding) checkHeld(user, now - commandTimeout);
  };
  // Behind what has arrived: a process that stood still finds its timers due before it has read the answers.
  const clock = setInterval(() => setImmediate(checkTime), Math.max(10, commandTimeout / 20));
  clock.unref();

  return {
    send(tenantId, request) {
      return new Promise((resolve, reject) => {
        if (isClosed) throw new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' });
        throwIfAborted(request.signal);
        const user = userOf(tenantId);
        if (
          pending >= maxPending ||
          user.pending + user.held.length >= maxPendingPerTenant ||
          pendingBytes + request.text.length > MAX_BYTES
        )
          throw new TenantryError('CLIENTS_EXHAUSTED', { store: 'Redis' });
        const waiting: Waiting = {
          account: NOBODY,
          text: request.text,
          count: request.count,
          user,
          request,
          since: performance.now(),
          lane: undefined,
          loginsRefused: 0,
          losses: 0,
          isUnderWay: false,
          isOver: false,
          resolve,
          reject,
          end: (outcome) => onOutcome(waiting, outcome),
        };
        // Before the request is counted: this may throw, and the count would never be taken back.
        if (request.signal !== undefined) listen(waiting, request.signal);
        pending += 1;
        pendingBytes += request.text.length;
        own.noteRequest(user);
        place(waiting);
      });
    },
    stats: () => {
      const all = [...shared, ...own.all];
      const sum = (count: (lane: Lane) => number): number =>
        all.reduce((total, lane) => total + count(lane), 0);
      return {
        shared: shared.length,
        own: all.length - shared.length,
        connected: sum((lane) => (lane.isConnected ? 1 : 0)),
        pending,
        connects: own.gone.connects + sum((lane) => lane.connects),
        logins: own.gone.logins + sum((lane) => lane.logins),
        promotions: own.promotions,
        evictions: own.evictions,
      };
    },
    close() {
      isClosed = true;
      clearInterval(clock);
      for (const lane of shared) lane.close();
      own.close();
      for (const user of users.values()) {
        for (const waiting of user.held.splice(0)) fail(waiting, unavailable());
      }
    },
  };

  // The way of a request ---------------------------------------------------------------------------------------------

  function place(waiting: Waiting): void {
    const { user } = waiting;
    const wanted = user.own ?? user.shared;
    const mustWait =
      user.account === undefined || user.held.length > 0 || (user.pending > 0 && user.lane !== wanted);
    if (!mustWait && user.account !== undefined) return submit(waiting, wanted, user.account);
    hold(waiting);
    if (user.account === undefined) ask(user, false);
  }

  function hold(waiting: Waiting): void {
    waiting.user.held.push(waiting);
    holding.add(waiting.user);
  }

  /** Fails the requests that have waited here since before `late`: what they wait for may never come. */
  function checkHeld(user: User, late: number): void {
    for (const waiting of user.held) {
      if (waiting.since >= late) continue;
      user.asking = undefined;
      fail(waiting, unavailable(new Error('Command timed out')));
    }
    user.held = user.held.filter(({ isOver }) => !isOver);
    if (user.held.length === 0) holding.delete(user);
  }

  function submit(waiting: Waiting, lane: Lane, account: Account): void {
    const { user } = waiting;
    user.lane = lane;
    user.pending += 1;
    waiting.lane = lane;
    waiting.isUnderWay = true;
    waiting.account = account;
    lane.submit(waiting);
  }

  function release(user: User): void {
    const { account } = user;
    if (account === undefined || user.held.length === 0 || user.asking !== undefined) return;
    const wanted = user.own ?? user.shared;
    if (user.pending > 0 && user.lane !== wanted) return;
    for (const waiting of user.held.splice(0)) {
      if (!waiting.isOver) submit(waiting, wanted, account);
    }
  }

  function onOutcome(waiting: Waiting, outcome: Outcome): void {
    const { user } = waiting;
    user.pending -= 1;
    waiting.isUnderWay = false;
    if (waiting.isOver) uncount(waiting);
    else settle(waiting, outcome);
    if (user.pending === 0) release(user);
  }

  function settle(waiting: Waiting, outcome: Outcome): void {
    const { user } = waiting;
    switch (outcome.kind) {
      case 'answered':
        finish(waiting);
        return waiting.resolve(outcome.replies);
      case 'login-refused':
        // Nothing ran. The password was rotated, or Redis does not have the user: not yet, not again after a restart, or no more.
        waiting.loginsRefused += 1;
        if (waiting.loginsRefused > 1 || isClosed || performance.now() < user.refusedUntil)
          return fail(waiting, unavailable(outcome.error));
        hold(waiting);
        if (user.account === waiting.account) return ask(user, true, outcome.error);
        return release(user);
      case 'unsent':
        // The tenant's own connection cannot be made, for example because the server has too many. The shared ones are there.
        if (waiting.lane !== user.shared && !isClosed) {
          own.refuse(user);
          return again(waiting);
        }
        return fail(waiting, unavailable(outcome.error));
      case 'lost':
        waiting.losses += 1;
        if (waiting.request.repeatable && waiting.losses === 1 && !isClosed) return again(waiting);
        return fail(waiting, unavailable(outcome.error));
      case 'late':
        return fail(waiting, unavailable(outcome.error));
    }
  }

  /** Sends the request again, but later: the connection that has lost it is still giving back others. */
  function again(waiting: Waiting): void {
    hold(waiting);
    setImmediate(() => release(waiting.user));
  }

  function finish(waiting: Waiting): void {
    waiting.isOver = true;
    // A request that was aborted after it was written takes memory until its replies have come.
    if (!waiting.isUnderWay) uncount(waiting);
  }

  function uncount({ text }: Waiting): void {
    pending -= 1;
    pendingBytes -= text.length;
  }

  function fail(waiting: Waiting, error: unknown): void {
    if (waiting.isOver) return;
    finish(waiting);
    waiting.reject(error);
  }

  function listen(waiting: Waiting, signal: AbortSignal): void {
    const { resolve, reject } = waiting;
    const stop = whenAborted(signal, (reason) => {
      if (waiting.lane?.withdraw(waiting) === true) {
        waiting.user.pending -= 1;
        waiting.isUnderWay = false;
      }
      fail(waiting, reason);
      if (waiting.user.pending === 0) release(waiting.user);
    });
    const without =
      <T>(then: (value: T) => void) =>
      (value: T): void => {
        stop();
        then(value);
      };
    waiting.resolve = without(resolve);
    waiting.reject = without(reject);
  }

  // Passwords --------------------------------------------------------------------------------------------------------

  function ask(user: User, fresh: boolean, refusal?: Error): void {
    if (user.asking !== undefined) return;
    const refused = user.account;
    const asking = credentials
      .get(user.id, 'redis', { fresh })
      .then(
        ({ password }) => {
          // With the same password another try would be refused too: Redis does not have the user, or has switched it off.
          if (refused?.password === password) {
            user.refusedUntil = performance.now() + ASK_AGAIN_AFTER;
            rejectHeld(user, unavailable(refusal));
          } else user.account = { user: redisUserName(user.id), password };
        },
        (error: unknown) => rejectHeld(user, error),
      )
      .finally(() => {
        if (user.asking === asking) user.asking = undefined;
        // A request may have come while the others were being failed.
        if (user.account === undefined && user.held.length > 0) ask(user, false);
        release(user);
      });
    user.asking = asking;
  }

  function rejectHeld(user: User, error: unknown): void {
    for (const waiting of user.held.splice(0)) fail(waiting, error);
  }

  // Tenants ----------------------------------------------------------------------------------------------------------

  function userOf(id: TenantId): User {
    const known = users.get(id);
    if (known !== undefined) return known;
    if (users.size >= MAX_USERS) forgetIdle();
    const user: User = {
      id,
      shared: shared[next++ % shared.length] as Lane,
      account: undefined,
      asking: undefined,
      own: undefined,
      lane: undefined,
      pending: 0,
      held: [],
      heat: 0,
      heatAt: 0,
      coolUntil: 0,
      promoteFrom: 0,
      lookAgainAt: 0,
      refusedUntil: 0,
    };
    users.set(id, user);
    return user;
  }

  function forgetIdle(): void {
    for (const user of users.values()) {
      if (user.pending === 0 && user.held.length === 0 && user.own === undefined) users.delete(user.id);
      if (users.size <= MAX_USERS / 2) return;
    }
  }
}

/** Also for a refused login: Redis may have restarted without the user, and the reconciler makes it again. */
const unavailable = (cause?: Error): TenantryError =>
  new TenantryError('STORE_UNAVAILABLE', { store: 'Redis' }, cause === undefined ? {} : { cause });
