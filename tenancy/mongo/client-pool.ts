/**
 * One client for each tenant that is at work, and never more than `maxClients`. Whoever uses a client holds a lease, and a
 * client with leases is never closed. A client that must go, because its place is wanted or its password was rotated, is
 * retired: it gets no new leases and closes when the last one ends.
 */
import { setMaxListeners } from 'node:events';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { outsideTenants } from '../context/tenant-context.js';
import { isAborted, reasonOf } from '../signal.js';
import { storeError } from '../store-error.js';
import type { LentClient } from './lent-client.js';
import { type Login, type LoginOptions, logIn } from './login.js';
import { callIn, chooseVictim, type Lease, newSeat, type Seat } from './seat.js';

export interface ClientPoolOptions extends LoginOptions {
  readonly maxClients: number;
  /** How long a caller waits for a place before CLIENTS_EXHAUSTED, in milliseconds. */
  readonly waitMs: number;
  /** How long a client may be unused before it is closed, in milliseconds. */
  readonly idleMs: number;
  /** How often it is checked whether the password of a client in use has been rotated, in milliseconds. */
  readonly recheckMs: number;
}

export interface PoolStats {
  readonly clients: number;
  readonly connecting: number;
  readonly draining: number;
  readonly leases: number;
  readonly waiting: number;
  /** Connections to one server, monitoring included. */
  readonly connections: number;
  readonly connectionBound: number;
  readonly opened: number;
  /** Clients that were retired to make room. */
  readonly evicted: number;
  /** Logins over a client that another tenant had before. */
  readonly handedOn: number;
}

export interface ClientPool {
  /**
   * Answers at once, without a promise, when the tenant's client is there.
   * @throws TenantryError CLIENTS_EXHAUSTED, STORE_UNAVAILABLE, STORE_REFUSED
   */
  lease(tenantId: TenantId, signal?: AbortSignal): Lease | Promise<Lease>;
  stats(): PoolStats;
  /** Waits until all leases have ended, for at most `graceMs` milliseconds. */
  close(graceMs?: number): Promise<void>;
}

const GRACE_MS = 1_000;

export function createClientPool(options: ClientPoolOptions): ClientPool {
  const { maxClients, poolSize, waitMs, idleMs, recheckMs, credentials } = options;
  const { serverSelectionMs, socketTimeoutMs } = options;
  /** The current seat of each tenant; the least recently used comes first. */
  const seats = new Map<TenantId, Seat>();
  /** First come, first served. A tenant's callers wait in one seat. */
  const queue = new Set<Seat>();
  /** Tenants whose known password was refused. */
  const doubted = new Set<TenantId>();
  /** The seats that take one of the `maxClients` places: connecting, ready or retired. */
  const placed = new Set<Seat>();
  const closes = new Set<Promise<void>>();
  const opens = new Set<Promise<unknown>>();
  const cutOff = new AbortController();
  // Each client that logs in has a listener, and so has each connection that is being closed.
  setMaxListeners(0, cutOff.signal);
  const counts = { opened: 0, evicted: 0, handedOn: 0 };
  let closing = false;
  let onDrained = (): void => undefined;

  const countOf = (is: (seat: Seat) => boolean): number => {
    let count = 0;
    for (const seat of placed) if (is(seat)) count++;
    return count;
  };
  const isDraining = (seat: Seat): boolean => seat.state === 'retired';
  /** Retired, and not held for long: its place will be free soon. */
  const isLeaving = (seat: Seat): boolean => isDraining(seat) && seat.holds === 0;

  const leaseOf = (seat: Seat, login: Login): Lease => {
    seat.leases++;
    let [held, released] = [false, false];
    return {
      login,
      hold() {
        if (held || released) return;
        held = true;
        seat.holds++;
        // This client was to make room, and now will not for a while: choose another one.
        if (seat.state === 'retired' && seat.holds === 1) admitNext();
      },
      bound: (work) => seat.underWay.bound(work),
      refuse() {
        doubted.add(seat.tenantId);
        seat.spoilt = true;
        retire(seat);
      },
      release() {
        if (released) return;
        released = true;
        seat.leases--;
        if (held) seat.holds--;
        if (seat.leases > 0) return;
        if (seat.state === 'retired') closeSeat(seat, login);
        else if (queue.size > 0) admitNext();
      },
    };
  };

  /** The tenant's next caller gets another client. */
  const retire = (seat: Seat): void => {
    if (seat.state !== 'ready') return;
    seat.state = 'retired';
    if (seats.get(seat.tenantId) === seat) seats.delete(seat.tenantId);
    if (seat.leases === 0 && seat.login !== undefined) closeSeat(seat, seat.login);
  };

  const closeSeat = (seat: Seat, login: Login): void => {
    // A statement that its transaction did not await may still be under way.
    const isClean = !seat.spoilt && seat.underWay.isEmpty;
    const handedOn = queue.size > 0 && isClean ? login.handOn() : undefined;
    const closed = (handedOn ?? login.close()).then(async (client) => {
      // The caller who waited for it may have given up.
      const isWanted = queue.size > 0;
      if (!isWanted) await client?.close();
      closes.delete(closed);
      leavePlace(seat, isWanted && client !== undefined ? client : undefined);
    });
    closes.add(closed);
  };

  /** @param client is handed to the next one in the queue, which must not be empty then */
  const leavePlace = (seat: Seat, client?: LentClient): void => {
    placed.delete(seat);
    if (placed.size === 0) onDrained();
    admitNext(client);
  };

  /** Gives free places to those that wait, and retires one client for each that still waits. */
  const admitNext = (client?: LentClient): void => {
    let handedOn = client;
    for (const seat of queue) {
      if (placed.size >= maxClients) break;
      queue.delete(seat);
      connect(seat, handedOn);
      handedOn = undefined;
    }
    // Clients that are leaving already will give their places to those at the head of the queue.
    while (queue.size > countOf(isLeaving)) {
      const victim = chooseVictim(seats.values());
      if (victim === undefined) return;
      counts.evicted++;
      retire(victim);
    }
  };

  const open = async (seat: Seat, client?: LentClient): Promise<Login> => {
    seat.state = 'connecting';
    placed.add(seat);
    counts.opened++;
    if (client !== undefined) counts.handedOn++;
    try {
      const fresh = doubted.delete(seat.tenantId);
      // The client outlives this call, so its events and timers must not run as this tenant.
      const opening = outsideTenants(() => logIn(options, seat.tenantId, fresh, client, cutOff.signal));
      opens.add(opening);
      seat.login = await opening.finally(() => opens.delete(opening));
      [seat.usedAt, seat.checkedAt] = [performance.now(), performance.now()];
      seat.state = 'ready';
      return seat.login;
    } catch (error) {
      seat.state = 'retired';
      throw error;
    }
  };

  const connect = (seat: Seat, client?: LentClient): void => {
    open(seat, client).then(
      (login) => {
        for (const caller of seat.callers) caller.resolve(leaseOf(seat, login));
        seat.callers.clear();
        if (closing) retire(seat);
        else if (queue.size > 0) admitNext();
      },
      (error: unknown) => {
        if (seats.get(seat.tenantId) === seat) seats.delete(seat.tenantId);
        for (const caller of seat.callers) caller.reject(storeError('mongo', error));
        seat.callers.clear();
        leavePlace(seat);
      },
    );
  };

  /** After a rotation: logs in with the newer password on a new client, and then retires the old one. */
  const renew = async (seat: Seat, login: Login): Promise<void> => {
    const { version } = await credentials.get(seat.tenantId, 'mongo');
    const isCurrent = (): boolean => !closing && seats.get(seat.tenantId) === seat;
    if (version <= login.version || !isCurrent()) return;
    if (placed.size >= maxClients) {
      // Tried again at the next check, when the place is free. Until then the old client works.
      const idle = chooseVictim(seats.values(), (other) => other !== seat && other.leases === 0);
      if (idle !== undefined) retire(idle);
      return;
    }
    const next = newSeat(seat.tenantId);
    try {
      await open(next);
    } catch (error) {
      leavePlace(next);
      throw error;
    }
    if (!isCurrent()) return retire(next);
    retire(seat);
    seats.set(seat.tenantId, next);
  };

  const take = (seat: Seat, login: Login): Lease => {
    const now = performance.now();
    seat.usedAt = now;
    seats.delete(seat.tenantId);
    seats.set(seat.tenantId, seat);
    if (now - seat.checkedAt > recheckMs) {
      seat.checkedAt = now;
      // The catalogue may be away, or ahead of the server: the present client stays in use.
      renew(seat, login).catch(() => undefined);
    }
    return leaseOf(seat, login);
  };

  /** The driver bounds the waits for a connection, a server and an answer. What takes longer than all three never ends. */
  const longestMs = serverSelectionMs + 2 * socketTimeoutMs + GRACE_MS;
  const watch = setInterval(
    () => {
      for (const seat of placed) {
        if (!seat.underWay.giveUpBefore(performance.now() - longestMs, unavailable)) continue;
        // What never ends may keep its connections for ever.
        seat.spoilt = true;
        retire(seat);
      }
    },
    Math.min(longestMs / 4, 1_000),
  ).unref();

  const sweeper = setInterval(() => {
    const before = performance.now() - idleMs;
    for (const seat of seats.values()) if (seat.leases === 0 && seat.usedAt < before) retire(seat);
  }, idleMs / 4).unref();

  return {
    lease(tenantId, signal) {
      if (isAborted(signal)) return Promise.reject(reasonOf(signal));
      if (closing) return Promise.reject(unavailable());
      const seat = seats.get(tenantId) ?? newSeat(tenantId);
      if (seat.state === 'ready' && seat.login !== undefined) return take(seat, seat.login);
      const lease = callIn(seat, waitMs, signal, () => {
        queue.delete(seat);
        if (seats.get(tenantId) === seat) seats.delete(tenantId);
      });
      if (!seats.has(tenantId)) {
        seats.set(tenantId, seat);
        queue.add(seat);
        admitNext();
      }
      return lease;
    },
    stats() {
      const all = [...placed];
      const sum = (of: (seat: Seat) => number): number => all.reduce((total, seat) => total + of(seat), 0);
      return {
        clients: all.length,
        connecting: countOf(({ state }) => state === 'connecting'),
        draining: countOf(isDraining),
        leases: sum(({ leases }) => leases),
        waiting: [...queue].reduce((total, { callers }) => total + callers.size, 0),
        connections: sum(({ login }) => login?.connections() ?? poolSize + 1),
        connectionBound: maxClients * (poolSize + 1),
        ...counts,
      };
    },
    async close(graceMs = 5_000) {
      closing = true;
      clearInterval(sweeper);
      clearInterval(watch);
      for (const seat of queue) {
        for (const caller of seat.callers) caller.reject(unavailable());
        seats.delete(seat.tenantId);
      }
      queue.clear();
      for (const seat of seats.values()) retire(seat);
      if (placed.size > 0)
        await Promise.race([
          new Promise<void>((resolve) => {
            onDrained = resolve;
          }),
          new Promise<void>((resolve) => {
            setTimeout(resolve, graceMs).unref();
          }),
        ]);
      // What has not ended by now is cut off.
      cutOff.abort(unavailable());
      for (const { underWay } of placed) underWay.giveUpBefore(Number.POSITIVE_INFINITY, unavailable);
      await Promise.allSettled(opens);
      await Promise.all([...placed].map(async ({ login }) => login?.close()));
      await Promise.all(closes);
    },
  };
}

const unavailable = (): TenantryError => new TenantryError('STORE_UNAVAILABLE', { store: 'MongoDB' });
